"""From what the user names to windows for the models.

`inputs` lists recordings; `audio_input` and `store_input` read them, `loading` with processes that
decode ahead of the models, `windows` into cells, or `waveforms` for models that take those, at the
same `places`; `messages` is what those send.
"""
