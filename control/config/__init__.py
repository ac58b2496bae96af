"""What the deployment is to be: the config file, its versions, drains, and the snapshots that nodes get of it."""
