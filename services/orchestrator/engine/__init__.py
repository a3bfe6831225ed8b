"""Runs of jobs that outlive their processes: the port (`port.py`), and what stands behind it on DBOS Transact.

Nothing outside names DBOS. Whose process died is found out by `liveness.py`, its runs are taken over by `recovery.py`,
and a segment that kills processes is given up by `quarantine.py`.
"""
