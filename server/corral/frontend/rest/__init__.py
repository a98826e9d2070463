"""The protocol's HTTP form as an ASGI application: routes and answers, no server and no sockets."""

from corral.frontend.rest.app import RestApp
from corral.frontend.rest.console import ConsolePages
from corral.frontend.rest.service import Feed, Service
from corral.settings import Settings


def make(service: Service, feed: Feed | None = None, settings: Settings | None = None) -> RestApp:
    """The application of a frontend process.

    Args:
        service: the frontend.
        feed: what the console shows; None: there is no console.
        settings: whether there is a console, and who may reach it.
    """
    if feed is None or settings is None or not settings.listen.console:
        return RestApp(service)
    return RestApp(service, ConsolePages(service, feed, settings))
