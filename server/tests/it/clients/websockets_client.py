"""Everline through websockets. Arguments: URL, API key. Assertions are its output."""

import asyncio
import json
import socket
import sys
from urllib.parse import urlsplit

import httpx
import websockets
from websockets.asyncio.client import connect

url, key = sys.argv[1:]
api = f"{url}/api/v1"
address = url.replace("http", "ws", 1) + "/api/v1/ws"
bearer = {"Authorization": f"Bearer {key}"}
http = httpx.AsyncClient(timeout=30, trust_env=False, headers=bearer)
PATIENCE = 20


def definition(name):
    return {"name": name, "nodes": [{"id": "start", "type": "start"}, {"id": "end", "type": "end"}],
            "edges": [{"source": "start", "target": "end"}]}


async def post(path, body):
    answer = await http.post(api + path, json=body)
    assert answer.is_success, answer.text
    return answer.json()


async def receive(ws):
    return json.loads(await asyncio.wait_for(ws.recv(), PATIENCE))


async def closed(ws):
    try:
        while True:
            await asyncio.wait_for(ws.recv(), PATIENCE)
    except websockets.ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None


async def authentication():
    async with connect(address, additional_headers=bearer, proxy=None) as ws:
        await ws.send(json.dumps({"type": "ping"}))
        assert (await receive(ws))["type"] == "pong"
    async with connect(address, proxy=None) as ws:
        await ws.send(json.dumps({"type": "auth", "token": key}))
        await ws.send(json.dumps({"type": "ping"}))
        while (await receive(ws))["type"] != "pong":
            pass
    async with connect(address, proxy=None) as ws:
        await ws.send(json.dumps({"type": "auth", "token": "evl_wrong"}))
        assert await closed(ws) == 4401
    async with connect(address, proxy=None) as ws:
        assert await closed(ws) == 4401, "who says nothing is cut off"
    try:
        async with connect(address, additional_headers={"Authorization": "Bearer evl_wrong"}, proxy=None):
            raise AssertionError("a wrong key was let in")
    except websockets.InvalidStatus as refusal:
        assert refusal.response.status_code == 401


async def subscriptions(workflow):
    runs = [(await post(f"/workflows/{workflow}/execute", {"input": {}}))["execution_id"] for _ in range(20)]
    versions = {run: [] for run in runs}
    async with connect(address, additional_headers=bearer, proxy=None) as ws:
        for run in runs:
            await ws.send(json.dumps({"type": "subscribe", "id": run, "channel": "execution", "execution_id": run, "after_version": 0}))
        ended = set()
        while ended != set(runs):
            message = await receive(ws)
            if message["type"] == "event":
                versions[message["subscription"]].append(message["event"]["version"])
                if message["event"]["type"] == "execution.completed":
                    ended.add(message["subscription"])
    for run, seen in versions.items():
        assert seen == list(range(1, len(seen) + 1)), (run, seen)
    # Another connection goes on where this one has ended.
    run = runs[0]
    async with connect(address, additional_headers=bearer, proxy=None) as ws:
        await ws.send(json.dumps({"type": "subscribe", "id": "r", "channel": "execution", "execution_id": run, "after_version": 1}))
        message = await receive(ws)
        while message["type"] != "event":
            message = await receive(ws)
        assert message["event"]["version"] == 2, message
    return runs


async def resuming(workflow):
    """What happens between two connections is not missed, and nothing comes twice."""
    seen = []
    resume = "latest"
    for _ in range(3):
        async with connect(address, additional_headers=bearer, proxy=None) as ws:
            await ws.send(json.dumps({"type": "subscribe", "id": "e", "channel": "events", "after_position": resume, "category": "execution"}))
            while (await receive(ws))["type"] != "caught_up" and resume == "latest":
                pass
            run = (await post(f"/workflows/{workflow}/execute", {"input": {}}))["execution_id"]
            while True:
                message = await receive(ws)
                if message["type"] != "event":
                    continue
                resume = message["resume"]
                seen.append(message["event"]["id"])
                if message["event"]["stream"].endswith(run) and message["event"]["type"] == "execution.completed":
                    break
        await post(f"/workflows/{workflow}/execute", {"input": {}, "wait_ms": 20000})
    assert len(seen) == len(set(seen)), "an event came twice"


async def slow(workflow):
    """Who reads nothing is cut off with 4008."""
    for _ in range(10):
        await post(f"/workflows/{workflow}/execute", {"input": {"text": "x" * 30_000}, "wait_ms": 20000})
    # A small window, and a queue that is never emptied: what comes stays in the kernel.
    place = urlsplit(url)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    small.connect((place.hostname, place.port))
    small.setblocking(False)
    async with connect(address, additional_headers=bearer, proxy=None, sock=small, max_queue=1, max_size=2**24, close_timeout=1) as ws:
        for number in range(90):
            subscribe = {"type": "subscribe", "id": f"s{number}", "channel": "events", "category": "execution"}
            await ws.send(json.dumps(subscribe))
        await asyncio.sleep(3)
        assert await closed(ws) == 4008


async def main():
    workflow = (await post("/workflows", definition("sockets")))["id"]
    await authentication()
    await subscriptions(workflow)
    await resuming(workflow)
    await slow(workflow)
    await http.aclose()


asyncio.run(main())
