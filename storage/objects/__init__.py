"""Objects of folders, buckets and web servers with one interface.

`protocol` defines it, `urls` parses addresses, `open` picks `local` or `bucket`; `client` connects
to object stores, `failures` explains their errors. `keep_alive` asks http and S3 servers for ranges
without it, at the place that `direct` finds. `lock` admits one builder at a time, `sync` copies
sets of objects.
"""
