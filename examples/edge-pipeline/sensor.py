"""Sensor: publishes a day of temperatures of three machines, a reading every ten minutes, and ends."""

import math

import widget

MACHINES = ("press", "oven", "drill")
READINGS = 144

for number in range(READINGS):
    for place, machine in enumerate(MACHINES):
        celsius = 40.0 + 20.0 * place + 15.0 * math.sin(number / 12 + place)
        data = {"machine": machine, "number": number, "celsius": round(celsius, 2)}
        widget.publish("readings", "dev.kontrol.example.reading", data, id=f"{machine}.{number}", subject=machine)
print(f"sent {READINGS * len(MACHINES)} readings", flush=True)
