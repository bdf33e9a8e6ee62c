"""The API path against a bare aiohttp client, side by side: ``python benchmarks/api.py``.

A server in another process answers after 200 ms with images as base64. Nothing is written.

- *bare*: aiohttp downloads and throws away;
- *plain*: aiohttp, json and base64, as a script does it;
- *rest*: :class:`runner.providers.net.Http`, decoded, as a REST provider uses it;
- *sdk*: ``client.images.generate()`` of the OpenAI SDK on its aiohttp transport, decoded;
- *openai*: our provider, through the same SDK.

Rounds alternate, so that a busy machine is unfair to none; figures are the median of the rounds.
Ours run with the garbage collector as a run sets it, the others with Python's own settings.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import io
import json
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection

KINDS = ("bare", "plain", "rest", "sdk", "openai")
OURS = {"rest", "openai"}


def serve(pipe: Connection, image_bytes: int, latency_s: float) -> None:
    """Answer like OpenAI's Images API, with a PNG of noise."""
    from aiohttp import web
    from PIL import Image

    side = math.isqrt(image_bytes // 3)
    png = io.BytesIO()
    noise = Image.frombytes("RGB", (side, side), os.urandom(3 * side * side))
    noise.save(png, "PNG", compress_level=0)
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
        "output_tokens": 196,
        "total_tokens": 208,
    }
    item = {"b64_json": base64.b64encode(png.getvalue()).decode()}
    body = json.dumps({"created": 1, "data": [item], "usage": usage}).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(latency_s)
        return web.Response(body=body, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/images/generations", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def servers(images: int, latency_s: float) -> Iterator[tuple[str, int, int]]:
    """A server for each size and concurrency of the design: its address, images, calls at once."""
    for size, at_once in ((64_000, 32), (64_000, 256), (1_800_000, 32)):
        count = images if size < 1_000_000 else max(64, images // 3)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(theirs, size, latency_s))
        server.start()
        try:
            print(f"{size:,} bytes, {at_once} at once")
            yield f"http://127.0.0.1:{ours.recv()}/v1", count, at_once
        finally:
            server.terminate()
            server.join()


async def measure(
    one: Callable[[], Awaitable[object]], images: int, at_once: int
) -> tuple[float, float]:
    """Images per second, and CPU-seconds per 1,000 images, of this process."""
    left = iter(range(images))

    async def worker() -> None:
        for _ in left:
            await one()

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return images / wall, cpu / images * 1000


async def compare(base_url: str, images: int, at_once: int, rounds: int) -> None:
    """Run all kinds in turn and print their medians."""
    import aiohttp
    import openai

    from runner.engine.garbage import collect_rarely
    from runner.providers.contract import Call, Listener
    from runner.providers.net import Http
    from runner.providers.openai import OpenAIProvider
    from runner.settings.cell import Cell, CellParams
    from runner.settings.schema import ModelSettings, ProviderSettings, VariantSettings

    settings = VariantSettings(
        provider=ProviderSettings(name="openai", base_url=base_url),
        model=ModelSettings(name="gpt-image-2", traits={"sizes": {}}),
        timeout_s=600,
    )
    params = CellParams(prompt="a lighthouse")
    cell = Cell(index=0, variant=0, image_index=0, params=params, axes=(), cell_id="0" * 64)
    call = Call("call", (cell,))

    class Silent(Listener):
        """Hears nothing."""

    http, provider, listener = Http(settings, base_url=None), OpenAIProvider(settings), Silent()
    await http.open()
    await provider.open()
    body = {"model": "gpt-image-2", "n": 1, "prompt": params.prompt}
    client = openai.AsyncOpenAI(
        base_url=base_url, max_retries=0, http_client=openai.DefaultAioHttpClient()
    )
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def bare() -> None:
            async with session.post(f"{base_url}/images/generations", json=body) as response:
                await response.read()

        async def plain() -> None:
            async with session.post(f"{base_url}/images/generations", json=body) as response:
                reply = json.loads(await response.read())
            base64.b64decode(reply["data"][0]["b64_json"])

        async def rest() -> None:
            reply = await http.send("POST", "/images/generations", json=body)
            await http.take(reply.json()["data"][0]["b64_json"])

        async def sdk() -> None:
            reply = await client.images.generate(prompt=params.prompt, model="gpt-image-2", n=1)
            base64.b64decode(reply.data[0].b64_json)

        async def ours() -> None:
            await provider.generate(call, listener)

        ways = {"bare": bare, "plain": plain, "rest": rest, "sdk": sdk, "openai": ours}
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        for kind in KINDS:
            await measure(ways[kind], at_once, at_once)
        usual = gc.get_threshold()
        for _ in range(rounds):
            for kind in KINDS:
                gc.unfreeze()
                gc.set_threshold(*usual)
                if kind in OURS:
                    collect_rarely()
                found[kind].append(await measure(ways[kind], images, at_once))
    await client.close()
    await provider.close()
    await http.close()
    ground = statistics.median(speed for speed, _ in found["bare"])
    for kind in KINDS:
        speed = statistics.median(speed for speed, _ in found[kind])
        cpu = statistics.median(cpu for _, cpu in found[kind])
        print(
            f"  {kind:8}{speed:7.0f} images/s {speed / ground:6.2f} of bare {cpu:6.2f} CPU-s/1000"
        )


def main() -> None:
    """Compare at the sizes and concurrencies of the design."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.2)
    chosen = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "not-a-real-key"
    for address, images, at_once in servers(chosen.images, chosen.latency):
        asyncio.run(compare(address, images, at_once, chosen.rounds))


if __name__ == "__main__":
    main()
