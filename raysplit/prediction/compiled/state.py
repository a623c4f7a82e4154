"""The memory of the compiled engine, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from raysplit.prediction.compiled.program import WORK, Program
from raysplit.schedulers.queue import POLICIES

_FIXED_ENTRIES = 64


class Memory(NamedTuple):
    """Arrays of the engine. ``t`` counts tasks, ``d`` machines, with those of the owners first.

    Attributes:
        at, begun, uses, phase, done, heads, tails, behind, counts, time_s: state of each task: its next operation, the
            operation at which it began (-1 if there is no task), the awaits still to come, how far the operation is,
            whether it has ended, who waits for it, who waits behind it, the number of others that it waits for or its
            number in a queue, and the time of its end or of the work that it does.
        due, free: rings of what is due, and of machines that became free.
        timer_s, timer_number, timer_task: a heap of timers.
    """

    s: Any
    clock: Any
    code: Any
    numbers: Any
    at: Any
    begun: Any
    uses: Any
    phase: Any
    done: Any
    heads: Any
    tails: Any
    behind: Any
    counts: Any
    time_s: Any
    due: Any
    free: Any
    timer_s: Any
    timer_number: Any
    timer_task: Any
    busy: Any
    policies: Any
    lane_heads: Any
    lane_tails: Any
    fair_of: Any
    fair_first: Any
    fair_size: Any
    fair_rank: Any
    fair_number: Any
    fair_task: Any
    served: Any
    served_owner: Any
    link_rate: Any
    link_latency_s: Any
    link_up: Any
    link_down: Any
    up_free_s: Any
    down_free_s: Any
    met: Any
    meetings: Any
    back_at: Any
    meeting_heads: Any
    meeting_tails: Any
    turns: Any
    turn_heads: Any
    turn_tails: Any
    submitted: Any
    sums: Any
    sum_heads: Any
    sum_tails: Any
    list_owner: Any
    list_kind: Any
    list_first: Any
    list_size: Any
    loops: Any
    bodies: Any
    loop_place: Any
    marks_s: Any
    log_event: Any
    log_owner: Any
    log_start_s: Any
    log_end_s: Any
    span: Any
    use_tasks: Any
    use_busy_s: Any
    use_longest_s: Any
    use_last_s: Any


def memory_of(program: Program, policies: dict[str, str], *, keep_events: bool) -> Memory:
    """Return the memory at the start of a program.

    Args:
        program: the program.
        policies: the queue policies of the devices that have others than ``fifo``.
        keep_events: whether every event is kept.
    """
    num_owners, code = program.num_owners, np.array(program.code, np.int32).reshape(-1, 7)
    num_tasks = num_owners * program.num_slots + program.num_tasks
    num_devices = num_owners + len(program.devices)
    order = list(POLICIES)
    of_device = np.array([order.index(policies.get(name, "fifo")) for name in program.devices], np.int32)
    fair = np.flatnonzero(of_device == order.index("fair"))
    waiting = [_num_waiting(code, program, num_owners + int(device)) for device in fair]
    num_events = program.num_events if keep_events else 0
    owners = [np.asarray(owner, np.int32) for owner, _ in program.lists] or [np.zeros(0, np.int32)]
    kinds = [np.asarray(kind, np.int32) for _, kind in program.lists] or [np.zeros(0, np.int32)]
    num_turns = sum(size for _, size in program.orders)
    num_ends = num_owners + len(program.ends)
    return Memory(
        s=np.zeros(9, np.int64),
        clock=np.zeros(1),
        code=code,
        numbers=np.array(program.numbers, np.float64),
        at=np.zeros(num_tasks, np.int32),
        begun=np.full(num_tasks, -1, np.int32),
        uses=np.zeros(num_tasks, np.int32),
        phase=np.zeros(num_tasks, np.int8),
        done=np.zeros(num_tasks, np.int8),
        heads=np.full(num_tasks, -1, np.int32),
        tails=np.empty(num_tasks, np.int32),
        behind=np.empty(num_tasks, np.int32),
        counts=np.empty(num_tasks, np.int64),
        time_s=np.empty(num_tasks, np.float64),
        due=np.empty(_power_of_two(2 * num_tasks + _FIXED_ENTRIES), np.int64),
        free=np.empty(_power_of_two(num_devices + _FIXED_ENTRIES), np.int32),
        timer_s=np.empty(num_tasks, np.float64),
        timer_number=np.empty(num_tasks, np.int64),
        timer_task=np.empty(num_tasks, np.int32),
        busy=np.zeros(num_devices, np.int8),
        policies=of_device,
        lane_heads=np.full(3 * num_devices, -1, np.int32),
        lane_tails=np.empty(3 * num_devices, np.int32),
        fair_of=np.cumsum(of_device == order.index("fair")) - 1,
        fair_first=np.cumsum([0, *waiting])[:-1],
        fair_size=np.zeros(len(fair), np.int64),
        fair_rank=np.empty(sum(waiting), np.int64),
        fair_number=np.empty(sum(waiting), np.int64),
        fair_task=np.empty(sum(waiting), np.int32),
        served=np.zeros(len(fair) * (num_owners + 1), np.int64),
        served_owner=np.empty(num_tasks if len(fair) else 0, np.int32),
        link_rate=np.array([rate for rate, _, _, _ in program.links], np.float64),
        link_latency_s=np.array([latency for _, latency, _, _ in program.links], np.float64),
        link_up=np.array([up for _, _, up, _ in program.links], np.int64),
        link_down=np.array([down for _, _, _, down in program.links], np.int64),
        up_free_s=np.zeros(num_ends),
        down_free_s=np.zeros(num_ends),
        met=np.zeros(len(program.meetings), np.int64),
        meetings=np.array(program.meetings, np.int64),
        back_at=np.zeros(len(program.meetings), np.int64),
        meeting_heads=np.full(len(program.meetings), -1, np.int32),
        meeting_tails=np.empty(len(program.meetings), np.int32),
        turns=np.zeros(len(program.orders), np.int64),
        turn_heads=np.full(num_turns, -1, np.int32),
        turn_tails=np.empty(num_turns, np.int32),
        submitted=np.zeros(len(program.sums), np.int64),
        sums=np.array(program.sums, np.int64),
        sum_heads=np.full(len(program.sums), -1, np.int32),
        sum_tails=np.empty(len(program.sums), np.int32),
        list_owner=np.concatenate(owners),
        list_kind=np.concatenate(kinds),
        list_first=np.cumsum([0, *map(len, owners)])[:-1],
        list_size=np.array([len(owner) for owner in owners], np.int64),
        loops=np.array(program.loops, np.int64).reshape(-1, 3),
        bodies=np.array(program.bodies, np.int64),
        loop_place=np.zeros(len(program.loops), np.int64),
        marks_s=np.zeros(program.num_marks),
        log_event=np.empty(num_events, np.int32),
        log_owner=np.empty(num_events, np.int32),
        log_start_s=np.empty(num_events, np.float64),
        log_end_s=np.empty(num_events, np.float64),
        span=np.array([np.inf, -np.inf]),
        use_tasks=np.zeros(num_devices, np.int64),
        use_busy_s=np.zeros(num_devices),
        use_longest_s=np.zeros(num_devices),
        use_last_s=np.zeros(num_devices),
    )


def _num_waiting(code: Any, program: Program, device: int) -> int:
    """Return how many tasks may wait for a device at the same time, at most."""
    works = bool(((code[:, 0] == WORK) & (code[:, 4] == device)).any())
    return (program.num_owners * program.num_slots + program.num_tasks + 1) if works else 0


def _power_of_two(size: int) -> int:
    return 1 << max(1, size - 1).bit_length()
