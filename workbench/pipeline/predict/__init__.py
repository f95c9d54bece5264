"""The predict step: answers or labels for the user's rows."""
