"""A guest made, seen to run and deleted, with the caller's own rights: does this cloud work?"""
