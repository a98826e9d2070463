"""Writes tests/data/models/formats: ``python write_formats.py TOOL FOLDER``, TOOL as in _WRITERS.

Each framework needs an environment of its own, and is far too large for the tests': what they wrote
is kept (TensorFlow 2.21.0, tf2onnx 1.17.0, Keras 3.15.1, Paddle 3.3.1, 2026-11-26; paddle2onnx
2.1.0, optimum 2.1.0 with optimum-onnx 0.1.0 and transformers 4.57.6, 2026-11-27). Beside the models
lie an input and the framework's own answer to it. What ultralytics (8.4.190) writes is not kept: it
is under the AGPL.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

#: the frameworks are in no environment of corral's, and have no types here
_IMPORT = __import__


def write_tensorflow(folder: Path) -> None:
    """A SavedModel, a frozen graph and a TFLite file of one network; a SavedModel of two inputs."""
    tf: Any = _IMPORT("tensorflow")
    freezing: Any = _IMPORT(
        "tensorflow.python.framework.convert_to_constants", fromlist=["convert"]
    )
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            layers.Input((16, 16, 3), name="pixels"),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )
    network.export(str(folder / "saved"), format="tf_saved_model")
    lite = tf.lite.TFLiteConverter.from_keras_model(network)
    (folder / "lite.tflite").write_bytes(lite.convert())
    pixels = tf.TensorSpec((None, 16, 16, 3), tf.float32, name="pixels")
    function = tf.function(network).get_concrete_function(pixels)
    frozen = freezing.convert_variables_to_constants_v2(function)
    (folder / "frozen.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    x = np.random.default_rng(0).random((2, 16, 16, 3)).astype(np.float32)
    np.savez(folder / "tensorflow.npz", x=x, y=network(x).numpy())
    _write_pair(tf, folder)


def _write_pair(tf: Any, folder: Path) -> None:
    signature = [
        tf.TensorSpec([None, 4], tf.int64, name="ids"),
        tf.TensorSpec([None, 1], tf.float32, name="scale"),
    ]

    def forward(ids: Any, scale: Any) -> dict[str, Any]:
        scores = tf.cast(tf.reduce_sum(ids, 1, keepdims=True), tf.float32) * scale
        best = tf.argmax(tf.concat([scores, -scores], 1), 1, output_type=tf.int64)
        return {"scores": scores, "best": best[:, None]}

    module = tf.Module()
    module.forward = tf.function(forward, input_signature=signature)
    tf.saved_model.save(
        module, str(folder / "pair"), signatures=module.forward.get_concrete_function()
    )


def write_tf2onnx(folder: Path) -> None:
    """A Keras network in ONNX, by tf2onnx and by Keras itself: NHWC, its batch dynamic."""
    tf: Any = _IMPORT("tensorflow")
    tf2onnx: Any = _IMPORT("tf2onnx")
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            layers.Input((32, 32, 3), name="pixels"),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax", name="scores"),
        ]
    )
    signature = (tf.TensorSpec((None, 32, 32, 3), tf.float32, name="pixels"),)
    tf2onnx.convert.from_function(
        tf.function(network, input_signature=signature),
        input_signature=signature,
        opset=17,
        output_path=str(folder / "keras_tf2onnx.onnx"),
    )
    network.export(str(folder / "keras_export.onnx"), format="onnx")
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    np.savez(folder / "keras_tf2onnx.npz", x=x, y=network(x).numpy())


def write_paddle(folder: Path) -> None:
    """A ``.pdmodel`` with its weights."""
    paddle: Any = _IMPORT("paddle")
    paddle.seed(1)
    nn = paddle.nn
    network = nn.Sequential(
        nn.Conv2D(3, 4, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, 16, 16], "float32", "pixels")]
    with paddle.pir_utils.OldIrGuard():
        paddle.jit.save(network, str(folder / "net"), input_spec=spec)
    x = np.random.default_rng(0).random((2, 3, 16, 16)).astype(np.float32)
    np.savez(folder / "paddle.npz", x=x, y=network(paddle.to_tensor(x)).numpy())


def write_paddle2onnx(folder: Path) -> None:
    """Paddle's network, which lies in the folder, as ONNX."""
    command = [str(Path(sys.executable).parent / "paddle2onnx"), "--model_dir", str(folder)]
    command += ["--model_filename", "net.pdmodel", "--params_filename", "net.pdiparams"]
    command += ["--opset_version", "17", "--save_file", str(folder / "paddle2onnx.onnx")]
    subprocess.run(command, check=True)


def write_optimum(folder: Path) -> None:
    """A vision transformer as the Hugging Face hub has them, exported by optimum-cli."""
    torch: Any = _IMPORT("torch")
    hub: Any = _IMPORT("transformers")
    torch.manual_seed(1)
    config = hub.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    network = hub.ViTForImageClassification(config).eval()
    with tempfile.TemporaryDirectory() as source:
        network.save_pretrained(source)
        hub.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(source)
        command = [str(Path(sys.executable).parent / "optimum-cli"), "export", "onnx"]
        command += ["--model", source, "--task", "image-classification", str(folder / "vit")]
        subprocess.run(command, check=True)
    x = np.random.default_rng(0).random((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        y = network(torch.from_numpy(x)).logits.numpy()
    np.savez(folder / "optimum.npz", x=x, y=y)


def write_ultralytics(folder: Path) -> None:
    """A YOLOv8n and a YOLO11n without knowledge, as ONNX with an open and a fixed batch."""
    torch: Any = _IMPORT("torch")
    yolo: Any = _IMPORT("ultralytics").YOLO
    torch.manual_seed(1)
    x = np.random.default_rng(0).random((1, 3, 160, 160)).astype(np.float32)
    for name in ("yolov8n", "yolo11n"):
        # What has no file of weights is not exported.
        yolo(f"{name}.yaml").save(folder / f"{name}.pt")
        network = yolo(folder / f"{name}.pt")
        for dynamic in (False, True):
            made = Path(network.export(format="onnx", imgsz=160, simplify=False, dynamic=dynamic))
            made.rename(folder / f"{name}_{'open' if dynamic else 'fixed'}.onnx")
        made = Path(network.export(format="torchscript", imgsz=160))
        made.rename(folder / f"{name}.torchscript")
        with torch.no_grad():
            y = network.model.eval()(torch.from_numpy(x))
        y = y[0] if isinstance(y, tuple | list) else y
        np.savez(folder / f"{name}.npz", x=x, y=y.numpy())


_WRITERS = {
    "tensorflow": write_tensorflow,
    "tf2onnx": write_tf2onnx,
    "paddle": write_paddle,
    "paddle2onnx": write_paddle2onnx,
    "optimum": write_optimum,
    "ultralytics": write_ultralytics,
}

if __name__ == "__main__":
    _WRITERS[sys.argv[1]](Path(sys.argv[2]))
