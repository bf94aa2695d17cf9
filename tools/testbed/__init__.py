"""Servers and faults that tests and benchmarks share.

`s3_server` runs OpenStack Swift, `fault_proxy` adds latency and faults, `environments` makes
separate Python environments.
"""
