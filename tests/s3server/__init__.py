"""A real S3 server for the tests: OpenStack Swift with its s3api, on loopback.

Doubles of S3 do not check signatures, so they cannot tell a link that holds from one that anybody
can change. This one is a store that people run, installed on first use into `.cache/s3`.
"""
