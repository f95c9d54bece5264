"""All runs compared: what is found in their folders, shown in the terminal and on one page."""
