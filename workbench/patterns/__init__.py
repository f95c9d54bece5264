"""Regular expressions of users and of foreign files, matched within limits on time."""
