"""The protocol's HTTP form as an ASGI application: routes and answers, no server and no sockets."""

from corral.frontend.rest.app import RestApp
from corral.frontend.rest.service import Service


def make(service: Service) -> RestApp:
    """The application of a frontend process."""
    return RestApp(service)
