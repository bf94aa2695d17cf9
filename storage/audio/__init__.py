"""From the bytes of an audio file to encoded slices.

`integrity` checks a file, by format (`ogg`, `mp3`, `pcm`; `kinds` names those that are not read);
`decode` yields samples, and `c_stderr` silences its libraries; `slicing` cuts them, `mel` (with
`filterbank`) computes log-mel values, `features` describes slices, `encoding` quantises them.
"""
