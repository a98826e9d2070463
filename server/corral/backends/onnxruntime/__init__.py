"""What each engine but OpenVINO loads, made of a module of the zoo or of a user's file."""
