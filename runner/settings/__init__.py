"""The ground floor: schema of the config, cells and the errors that users see."""
