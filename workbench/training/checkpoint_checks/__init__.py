"""What the files of a checkpoint hold, looked at before any of it is loaded."""
