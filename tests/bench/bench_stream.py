"""Single rows of the small net through a stream, messages a second from the first sent to the last acknowledged; the
floor is a process that does session.run on a ready array for each message between the same two sockets, in the same
run."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from subprocess import Popen

import numpy as np
import onnxruntime
import zmq
from benching import counted, deck, report
from serving_bench import WIDTH, network, serve

from quarterstore.records import streams

MESSAGES = counted(20_000, 1000)
REPEATS = counted(3, 1)
AHEAD = 800
BARE = """
import sys, numpy, onnxruntime, zmq
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[3], options, providers=["CPUExecutionProvider"])
row = numpy.zeros((1, int(sys.argv[4])), numpy.float32)
context = zmq.Context()
source, sink = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
source.bind(sys.argv[1]); sink.bind(sys.argv[2])
poller = zmq.Poller()
poller.register(source, zmq.POLLIN); poller.register(sink, zmq.POLLIN)
while True:
    ready = dict(poller.poll())
    if source in ready:
        sender, key, body = source.recv_multipart()
        session.run(None, {"x": row})
        sink.send_multipart([key, b"ok", body])
    if sink in ready:
        source.send_multipart([sender, sink.recv()])
"""
"""Both hops and the model, and nothing else: no JSON, no checks, no records, no window of keys."""


def through(source: str, sink: str, mark: str) -> float:
    """Messages a second: send ahead, acknowledge what comes out, until all is acknowledged."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sender, consumer = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    sender.connect(source)
    consumer.connect(sink)
    poller = zmq.Poller()
    poller.register(sender, zmq.POLLIN)
    poller.register(consumer, zmq.POLLIN)
    row = {f"f{n}": value for n, value in enumerate(np.random.default_rng(1).normal(size=WIDTH).round(4).tolist())}
    body = json.dumps({"rows": [row]}).encode()
    sent = done = 0
    time.sleep(0.5)  # both connections stand
    began = time.perf_counter()
    while done < MESSAGES:
        while sent < MESSAGES and sent - done < AHEAD:
            sender.send_multipart([f"{mark}-{sent}".encode(), body])
            sent += 1
        ready = dict(poller.poll(10_000))
        if not ready:
            raise SystemExit(f"nothing came for 10 s, {done} of {sent} done")
        while consumer in ready and consumer.poll(0):
            key, status, answer = consumer.recv_multipart()
            if status != b"ok":
                raise SystemExit(answer.decode())
            consumer.send(key)
        while sender in ready and sender.poll(0):
            sender.recv_multipart()
            done += 1
    took = time.perf_counter() - began
    for each in (sender, consumer):
        each.close(0)
    context.term()
    return MESSAGES / took


def bare(folder: Path, number: int) -> float:
    """The floor."""
    model = folder / "net.onnx"
    model.write_bytes(network(0))
    source, sink = (f"ipc://{folder}/{name}{number}" for name in ("in", "out"))
    process = Popen([sys.executable, "-c", BARE, source, sink, str(model), str(WIDTH)])
    try:
        return through(source, sink, "bare")
    finally:
        process.kill()
        process.wait()


def alone() -> float:
    """Calls of session.run a second, one row each."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(network(0), options, providers=["CPUExecutionProvider"])
    feed = {"x": np.zeros((1, WIDTH), np.float32)}
    began = time.perf_counter()
    for _ in range(MESSAGES):
        session.run(None, feed)
    return MESSAGES / (time.perf_counter() - began)


def main() -> None:
    """Floor and stream in turn."""
    with deck() as daemon, tempfile.TemporaryDirectory(dir="/tmp") as folder, daemon.client() as client:
        serve(daemon)
        asked = streams.StartStream(model="net", input="ipc://in", output="ipc://out")
        stream = client.ask(asked)
        while not (daemon.home.streams / "out.sock").exists():
            time.sleep(0.05)
        floors, values = [], []
        for number in range(REPEATS):
            floors.append(bare(Path(folder), number))
            addresses = (f"ipc://{daemon.home.streams}/{name}.sock" for name in ("in", "out"))
            values.append(through(*addresses, str(number)))
        report(
            "stream",
            figure=f"{MESSAGES:,} single rows through a stream, recorded, messages/s",
            values=values,
            floor="session.run for each message between two bare sockets, messages/s",
            floors=floors,
            reach="a figure to know",
            met=True,
            more={"session.run alone, 1/s": round(alone())},
        )
        client.ask(streams.StopStream(stream=stream.id))


main()
