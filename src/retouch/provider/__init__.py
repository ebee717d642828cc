"""The provider, Alibaba Cloud Model Studio (DashScope).

`requests` builds bodies and `answers` reads them, both pure; `refusals` maps errors onto the tree;
`client` is the one place that knows HTTP.
"""
