"""gRPC channels to the server under test, and its few pages that a load test reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from corral_client.addresses import grpc_target, proxy_options
from corral_client.security import bearer, check_files, read_token
from corral_loadtest.specification import Target, WrongInput
from corral_protos import open_inference_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
_MAX_MESSAGE_BYTES = 2**31 - 1
_CONNECT_S = 3.0


def open_channel(target: Target) -> Any:
    """A channel with a connection of its own, shared with no other channel of the process.

    Raises:
        WrongInput: the certificate authority's file cannot be read.
    """
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 0),
        *proxy_options(target.address),
    ]
    if target.ca is None:
        return grpc.insecure_channel(grpc_target(target.address), options=options)
    try:
        check_files(ca=target.ca)
    except ValueError as error:
        raise WrongInput(str(error)) from None
    except OSError as error:
        raise WrongInput(f"{target.ca} cannot be read: {error.strerror}") from error
    credentials = grpc.ssl_channel_credentials(Path(target.ca).read_bytes())
    return grpc.secure_channel(grpc_target(target.address), credentials, options=options)


def metadata(target: Target) -> tuple[tuple[str, str], ...]:
    """What goes with every call: the token, if there is one.

    Raises:
        WrongInput: its file cannot be read.
    """
    if target.token_file is None:
        return ()
    try:
        return bearer(read_token(target.token_file)) or ()
    except ValueError as error:
        named = str(error).startswith(f"{target.token_file}: ")
        raise WrongInput(str(error) if named else f"{target.token_file}: {error}") from None
    except OSError as error:
        raise WrongInput(f"{target.token_file} cannot be read: {error.strerror}") from error


def infer_method(channel: Any) -> Any:
    """ModelInfer on bytes: nothing is serialised or parsed while load is generated."""
    return channel.unary_unary(SERVICE + "ModelInfer")


def _ask(channel: Any, target: Target, method: str, request: Any, answer: Any) -> Any:
    call = channel.unary_unary(
        SERVICE + method,
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return call(request, timeout=_CONNECT_S, wait_for_ready=True, metadata=metadata(target))


def wait_connected(channel: Any, target: Target) -> None:
    """Returns once the connection stands.

    Raises:
        WrongInput: it did not within ten seconds.
    """
    try:
        grpc.channel_ready_future(channel).result(timeout=_CONNECT_S)
    except grpc.FutureTimeoutError as error:
        raise WrongInput(f"no server answers at {target.address}") from error


def model_metadata(channel: Any, target: Target) -> Any:
    """ModelMetadata of the target's model.

    Raises:
        WrongInput: the server does not give it.
    """
    request = pb.ModelMetadataRequest(name=target.model, version=target.version)
    try:
        return _ask(channel, target, "ModelMetadata", request, pb.ModelMetadataResponse)
    except grpc.RpcError as error:
        said = f"{error.code().name}: {error.details()}"
        raise WrongInput(
            f"{target.address} tells nothing of model {target.model}: {said}"
        ) from error


def server_name(channel: Any, target: Target) -> tuple[str, str]:
    """The server's name and version, empty where it does not say."""
    try:
        request = pb.ServerMetadataRequest()
        page = _ask(channel, target, "ServerMetadata", request, pb.ServerMetadataResponse)
    except grpc.RpcError:
        return "", ""
    return page.name, page.version


def try_request(channel: Any, target: Target, message: bytes) -> None:
    """Sends one request, so that a wrong input is said before load is generated.

    Raises:
        WrongInput: the server does not take it, or its answer is no ModelInferResponse.
    """
    call = infer_method(channel)
    try:
        answer = call(message, timeout=60.0, metadata=metadata(target))
        parsed = pb.ModelInferResponse.FromString(answer)
    except grpc.RpcError as error:
        said = f"{error.code().name}: {error.details()}"
        raise WrongInput(f"{target.address} does not take the request: {said}") from error
    if not parsed.outputs:
        raise WrongInput(f"{target.address} answered without an output")
