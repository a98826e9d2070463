"""Messages of the Open Inference Protocol, generated into a descriptor pool of their own."""
