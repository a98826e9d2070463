"""gRPC as an ASGI application: what the protocol adds to HTTP/2, and nothing of any service.

Messages are bytes here. It knows neither protobuf nor corral's data path.
"""
