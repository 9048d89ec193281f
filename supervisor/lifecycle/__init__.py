"""The decisions of a pod's life. Pure: no I/O, no clock, no randomness.

facts.py     the vocabulary between this core and the shell: what happened, what to do
restart.py   whether and when a container runs again
probing.py   what the attempts of a container's probes add up to
hooks.py     what is owed to a container's hooks, and until when
record.py    everything known about one pod, and the fold of facts into it
timeline.py  what happened while a pod was stopping
status.py    what the API shows of a record
decide.py    what should be done next
bounds.py    between which moments all that happens, for who only has the manifest
reasons.py   the words that users and their tools meet
"""
