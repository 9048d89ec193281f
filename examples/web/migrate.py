"""Stands for a database migration: an init container that must succeed before the app starts."""

import time

for version in (1, 2, 3):
    time.sleep(0.3)
    print(f"schema is at version {version}")
