"""
A wire between two hosts that is as bad as it is told to be, where the kernel has no netem: two TUN devices, and this
program between them, which carries packets with delay, jitter, loss, doubling, overtaking and damage. The hosts' own
TCP is at both ends. What befalls the n-th packet depends on the seed alone.

    wire.py SEED DEVICE DEVICE

Prints `ready`. The devices may then be moved to other network namespaces. Each line on standard input is a JSON object
with all that holds from now on; what it does not name is 0:

    {"delayMs": 10, "jitterMs": 5, "loss": 0.03, "double": 0.02, "overtake": 0.1, "damage": 0.01}

and is answered by the counts so far: {"carried": N, "lost": N, "doubled": N, "overtook": N, "damaged": N}.
Ends, and its devices with it, when standard input does.
"""

import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
PACKET_BYTES_MAX = 65536
# as a router would have it: more than this under way is lost
UNDER_WAY_MAX = 2000


def open_device(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Wire:
    def __init__(self, seed, devices):
        self.random = random.Random(seed)
        self.other = {devices[0]: devices[1], devices[1]: devices[0]}
        self.terms = {}
        self.under_way = []
        self.number = 0
        self.counts = {"carried": 0, "lost": 0, "doubled": 0, "overtook": 0, "damaged": 0}

    def happens(self, what):
        return self.random.random() < self.terms.get(what, 0)

    def count(self, what):
        self.counts[what] += 1

    def take(self, device, packet):
        # always as many draws a packet, so that one more of one kind does not change the others'
        lost, double, overtakes, damaged = (
            self.happens(what) for what in ("loss", "double", "overtake", "damage")
        )
        spread = self.random.uniform(-1, 1)
        at = int(self.random.random() * len(packet))
        if lost:
            self.count("lost")
            return
        if damaged:
            packet = packet[:at] + bytes([packet[at] ^ 0x55]) + packet[at + 1 :]
            self.count("damaged")
        delay_ms = self.terms.get("delayMs", 0) + spread * self.terms.get("jitterMs", 0)
        if overtakes:
            delay_ms = 0
            self.count("overtook")
        self.send(device, packet, delay_ms)
        if double:
            self.send(device, packet, delay_ms)
            self.count("doubled")

    def send(self, device, packet, delay_ms):
        if len(self.under_way) >= UNDER_WAY_MAX:
            self.count("lost")
            return
        self.number += 1
        due = time.monotonic() + max(0, delay_ms) / 1000
        heapq.heappush(self.under_way, (due, self.number, self.other[device], packet))

    def deliver(self):
        while self.under_way and self.under_way[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(self.under_way)
            try:
                os.write(device, packet)
                self.count("carried")
            except OSError:
                # the device is down, or takes no more, or (damaged) this is no packet any longer
                self.count("lost")

    def run(self):
        lines = b""
        while True:
            wait = max(0, self.under_way[0][0] - time.monotonic()) if self.under_way else None
            readable, _, _ = select.select([*self.other, 0], [], [], wait)
            self.deliver()
            for device in readable:
                if device == 0:
                    data = os.read(0, PACKET_BYTES_MAX)
                    if not data:
                        return
                    *whole, lines = (lines + data).split(b"\n")
                    for line in whole:
                        self.terms = json.loads(line)
                        print(json.dumps(self.counts), flush=True)
                    continue
                try:
                    packet = os.read(device, PACKET_BYTES_MAX)
                except OSError:
                    # it is down, or between two namespaces
                    time.sleep(0.001)
                    continue
                if packet:
                    self.take(device, packet)


def main():
    seed, first, second = sys.argv[1:]
    wire = Wire(int(seed), [open_device(first), open_device(second)])
    print("ready", flush=True)
    wire.run()


main()
