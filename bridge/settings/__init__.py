"""How the configuration is read: value types, applications, the three sources, and complaints that say what would be right.

Only `bridge.config` uses it, and is what everybody else sees.
"""
