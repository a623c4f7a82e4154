"""What editors are told of a configuration, to complete and check it while it is written."""
