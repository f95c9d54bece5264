"""Tells the addresses of a machine's own programs from those that other machines reach."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether an IP address is a loopback address, or a name is localhost; False for other names."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
