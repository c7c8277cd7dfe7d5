"""A fake of every upstream: one server, one router per dialect, as strict as the real ones.

What an upstream does is steered by tokens in the prompt (`tokens.py`), or for a while and for some
calls only by rules set through the side door (`server.py`). It draws real pictures, counts each
call and bills it, so that a test can compare its ledger with Darkroom's.
"""
