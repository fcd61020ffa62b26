"""The paper's protocol as pure functions over arrays: no models, no devices, no config."""
