"""Web server of tools.explore: thin routes over `training.inference.exploring`.

`server` binds and runs, `guard` refuses, `app` puts the routes together, `page/` is the page.
"""
