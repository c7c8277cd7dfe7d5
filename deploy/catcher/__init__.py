"""The webhook catcher: a receiver on this machine whose page shows what arrived and who signed it.

It is for the first minutes with webhooks, and it is written as a user would write one: it knows
Darkroom by its HTTP interface and Standard Webhooks by their library, and shares no code with it.
"""
