"""What a user may ask for: the fields of a config and the rules that a config must satisfy."""
