"""Serves models over HTTP by OpenAI's interface: completions, chat completions and the list of models.

    http.py            a connection: requests within limits, answers, server-sent events
    access.py          who may ask: API key, Host, Origin
    fields.py          reads the fields of a request
    requests.py        a request's body -> Request
    server.py          routes, connections, start and stop
    streams.py         an answer as one JSON object or as events
    worker.py          the thread that owns the models, and the requests that wait for it
    answering.py       a request's answers by a model
    responses.py       answers in OpenAI's fields

A field that would have no effect is refused, except `user`, and `seed` at temperature 0. The connections are
asyncio's, parsed by h11; a framework on uvicorn would have neither limits on bodies and receiving nor these
refusals.
"""
