"""Sources of images, their division among clients, and augmentation on the device.

`federation.load(config)` does everything on the host; `describe.write_partition` writes down what it did;
`augment` holds the functions that run inside a jitted step.
"""
