"""Asks models behind an endpoint of OpenAI's interface, and refuses endpoints that answer wrongly.

client.py             requests over HTTP: retries, rate, no redirects, the key masked
reply_bytes.py        reads the body of a reply, of bounded size
errors_in_replies.py  finds what a reply says about an error
replies.py            reads log-probabilities and texts from replies
scorers.py            the interfaces for log-probabilities of prompts: echo, vLLM's, SGLang's
probe.py              finds out, in a few requests, whether log-probabilities can be trusted
endpoint_model.py     an endpoint and the model there
endpoint_lm.py        an endpoint in the place of a causal model
endpoint_decoder.py   continues prompts at an endpoint
chat_endpoint.py      an endpoint that is asked by chats alone
at_once.py            runs several requests at once
"""
