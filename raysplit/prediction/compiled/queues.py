"""Lists, heaps and the queues of machines for the compiled engine."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
# Numba finds the types of these functions when it compiles them; annotations would only repeat them.
from __future__ import annotations

import numpy as np
from numba import njit

# entries of the counters
DUE_HEAD, DUE_SIZE, FREE_HEAD, FREE_SIZE, TIMERS, NUMBER, LOGGED, ARRIVALS, STATUS = range(9)
FIFO, BACKWARD_FIRST, FAIR = range(3)
UPDATE_LANE = 2
_LATER = np.int64(1) << 40


@njit(cache=True, inline="always")
def add_due(due, s, entry):
    due[(s[DUE_HEAD] + s[DUE_SIZE]) & (len(due) - 1)] = entry
    s[DUE_SIZE] += 1


@njit(cache=True, inline="always")
def append(heads, tails, behind, i, t):
    behind[t] = -1
    if heads[i] < 0:
        heads[i] = t
    else:
        behind[tails[i]] = t
    tails[i] = t


@njit(cache=True, inline="always")
def wake(heads, behind, i, due, s, way):
    t = heads[i]
    heads[i] = -1
    while t >= 0:
        add_due(due, s, t * 4 + way)
        t = behind[t]


@njit(cache=True)
def push(times, numbers, tasks, first, size, time, number, task):
    """Add an entry to the heap that lies at ``first`` in these arrays."""
    i = size
    while i > 0:
        above = (i - 1) >> 1
        j = first + above
        if times[j] < time or (times[j] == time and numbers[j] < number):
            break
        times[first + i], numbers[first + i], tasks[first + i] = times[j], numbers[j], tasks[j]
        i = above
    times[first + i], numbers[first + i], tasks[first + i] = time, number, task


@njit(cache=True)
def pop(times, numbers, tasks, first, size):
    """Remove the first entry of a heap of that size; its task was at ``first``."""
    last = first + size - 1
    time, number, task = times[last], numbers[last], tasks[last]
    size -= 1
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        j = first + child
        if child + 1 < size:
            k = j + 1
            if times[k] < times[j] or (times[k] == times[j] and numbers[k] < numbers[j]):
                j, child = k, child + 1
        if time < times[j] or (time == times[j] and number < numbers[j]):
            break
        times[first + i], numbers[first + i], tasks[first + i] = times[j], numbers[j], tasks[j]
        i = child
    times[first + i], numbers[first + i], tasks[first + i] = time, number, task


@njit(cache=True)
def next_work(m, device, num_owners, s):
    """Return the task whose work a machine does next, or -1; the machine is busy unless there is none."""
    policy = m.policies[device - num_owners] if device >= num_owners else FIFO
    if policy == FAIR:
        fair = m.fair_of[device - num_owners]
        first = m.fair_first[fair]
        while m.fair_size[fair] > 0:
            rank, number, task = m.fair_rank[first], m.fair_number[first], m.fair_task[first]
            pop(m.fair_rank, m.fair_number, m.fair_task, first, m.fair_size[fair])
            m.fair_size[fair] -= 1
            served = fair * (num_owners + 1) + m.served_owner[task]
            now = (rank // _LATER) * _LATER + m.served[served]
            if now == rank:
                m.served[served] += 1
                return task
            push(m.fair_rank, m.fair_number, m.fair_task, first, m.fair_size[fair], now, number, task)
            m.fair_size[fair] += 1
        m.busy[device] = 0
        return np.int64(-1)
    lane = 3 * device + UPDATE_LANE
    if m.lane_heads[lane] < 0:
        forward, backward = m.lane_heads[lane - 2], m.lane_heads[lane - 1]
        if forward < 0 and backward < 0:
            m.busy[device] = 0
            return np.int64(-1)
        if forward < 0 or (backward >= 0 and (policy == BACKWARD_FIRST or m.counts[backward] < m.counts[forward])):
            lane -= 1
        else:
            lane -= 2
    task = m.lane_heads[lane]
    m.lane_heads[lane] = m.behind[task]
    return task


@njit(cache=True)
def join(m, device, lane, owner, task, num_owners, s):
    """Let a task's work wait for its machine."""
    number = s[ARRIVALS]
    s[ARRIVALS] += 1
    if device >= num_owners and m.policies[device - num_owners] == FAIR:
        fair = m.fair_of[device - num_owners]
        m.served_owner[task] = owner
        rank = m.served[fair * (num_owners + 1) + owner] + (0 if lane == UPDATE_LANE else _LATER)
        push(m.fair_rank, m.fair_number, m.fair_task, m.fair_first[fair], m.fair_size[fair], rank, number, task)
        m.fair_size[fair] += 1
    else:
        m.counts[task] = number
        append(m.lane_heads, m.lane_tails, m.behind, 3 * device + lane, task)


@njit(cache=True)
def log(m, s, event, owner, device, start_s, end_s):
    if len(m.log_event):
        i = s[LOGGED]
        m.log_event[i] = event
        m.log_owner[i] = owner
        m.log_start_s[i] = start_s
        m.log_end_s[i] = end_s
    s[LOGGED] += 1
    m.span[0] = min(m.span[0], start_s)
    m.span[1] = max(m.span[1], end_s)
    if device >= 0:
        if m.use_tasks[device]:
            m.use_longest_s[device] = max(m.use_longest_s[device], start_s - m.use_last_s[device])
        m.use_tasks[device] += 1
        m.use_busy_s[device] += end_s - start_s
        m.use_last_s[device] = max(m.use_last_s[device], end_s)
