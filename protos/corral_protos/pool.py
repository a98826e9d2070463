"""The descriptor pool that corral's messages live in, apart from protobuf's default pool."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
