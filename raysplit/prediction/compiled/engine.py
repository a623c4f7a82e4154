"""The compiled engine: it runs a program for all owners, in the order in which asyncio would.

Numba compiles this module once and keeps it in its cache, a ``__pycache__`` beside this file or, where that cannot be
written, the user's cache folder (``NUMBA_CACHE_DIR`` names another).

Every task has a state at a place ``t``: those of owner o are at ``o * num_slots`` and behind, those of no owner behind
all others. What is due runs first in its order, then machines that became free in this instant pass on to the next
work, and then the time moves on to the next timer, exactly as on a `VirtualLoop`.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-untyped-decorators=False
# Numba finds the types of these functions when it compiles them; annotations would only repeat them.
from __future__ import annotations

import numpy as np
from numba import njit

from raysplit.prediction.compiled.queues import (
    DUE_HEAD,
    DUE_SIZE,
    FAIR,
    FREE_HEAD,
    FREE_SIZE,
    NUMBER,
    STATUS,
    TIMERS,
    add_due,
    append,
    join,
    log,
    next_work,
    pop,
    push,
    wake,
)

# operations, modes: as in `program`
END, START, AWAIT, ALL, WORK, CARRY, MEET, RELEASE, TURN, PASSED, SUBMIT, MEAN, MARK, LOOP, NEXT = range(15)
OWN, OF_LOOP, NONE = range(3)
# what is due: a step of a task, the end of one that is awaited with others, the end of a shielded wait, the end of all
STEP, JOINED, SHIELDED, STOP = range(4)
RUNNING, FINISHED, DEADLOCK, CONFLICT = range(4)


@njit(cache=True)
def advance(m, num_owners, num_slots, budget):
    """Run until the end, or for so many steps; return the status."""
    s, clock = m.s, m.clock
    code, numbers, due, behind = m.code, m.numbers, m.due, m.behind
    first_of_none = num_owners * num_slots
    now_s = clock[0]
    free_mask = len(m.free) - 1
    while budget > 0:
        budget -= 1
        if s[DUE_SIZE]:
            entry = np.int64(due[s[DUE_HEAD]])
            s[DUE_SIZE] -= 1
            # An empty ring begins anew, so that it takes the memory of the most that is due at once, and not its size.
            s[DUE_HEAD] = (s[DUE_HEAD] + 1) & (len(due) - 1) if s[DUE_SIZE] else 0
            way, t = entry & 3, entry >> 2
            if way == JOINED:
                m.counts[t] -= 1
                if m.counts[t] == 0:
                    add_due(due, s, t * 4 + STEP)
                continue
            if way == SHIELDED:
                add_due(due, s, t * 4 + STEP)
                continue
            if way == STOP:
                s[STATUS] = FINISHED
                break
        elif s[FREE_SIZE]:
            device = m.free[s[FREE_HEAD]]
            s[FREE_HEAD] = (s[FREE_HEAD] + 1) & free_mask
            s[FREE_SIZE] -= 1
            t = np.int64(next_work(m, device, num_owners, s))
            if t < 0:
                continue
        elif s[TIMERS]:
            now_s, t = m.timer_s[0], np.int64(m.timer_task[0])
            pop(m.timer_s, m.timer_number, m.timer_task, 0, s[TIMERS])
            s[TIMERS] -= 1
        else:
            s[STATUS] = DEADLOCK
            break

        own = np.int64(-1)
        if t < first_of_none:
            own = t // num_slots
        pc = np.int64(m.at[t])
        phase = np.int64(m.phase[t])
        while True:
            op = code[pc, 0]
            mode = code[pc, 1]
            owner = np.int64(-1)
            base = first_of_none
            if mode == OWN:
                owner = own
                base = own * num_slots
            elif mode == OF_LOOP:
                loop = code[pc, 2]
                owner = np.int64(m.list_owner[m.list_first[m.loops[loop, 0]] + m.loop_place[loop]])
                base = owner * num_slots
            if op == WORK:
                device = np.int64(code[pc, 4])
                if device < 0:
                    device = owner
                if phase == 0:
                    served = np.int64(code[pc, 6])
                    if served < 0:
                        served = owner
                    if m.busy[device]:
                        join(m, device, np.int64(code[pc, 5]), served, t, num_owners, s)
                        m.at[t] = pc
                        m.phase[t] = 1
                        break
                    m.busy[device] = 1
                    if device >= num_owners and m.policies[device - num_owners] == FAIR:
                        m.served[m.fair_of[device - num_owners] * (num_owners + 1) + served] += 1
                if phase < 2:
                    m.time_s[t] = now_s
                    ends_s = now_s + numbers[pc]
                    if ends_s > now_s:
                        push(m.timer_s, m.timer_number, m.timer_task, 0, s[TIMERS], ends_s, s[NUMBER], t)
                        s[NUMBER] += 1
                        s[TIMERS] += 1
                        m.at[t] = pc
                        m.phase[t] = 2
                        break
                log(m, s, code[pc, 3], owner, device, m.time_s[t], now_s)
                m.free[(s[FREE_HEAD] + s[FREE_SIZE]) & free_mask] = device
                s[FREE_SIZE] += 1
            elif op == CARRY:
                if phase == 0:
                    start_s = now_s
                    if code[pc, 5] >= 0:
                        made = code[pc, 5] + (own * num_slots if code[pc, 6] == OWN else first_of_none)
                        start_s = m.time_s[made]
                        m.uses[made] -= 1
                        if m.uses[made] == 0:
                            m.begun[made] = -1
                    link = code[pc, 4]
                    up, down = m.link_up[link], m.link_down[link]
                    if up != -1:
                        up = owner if up == -2 else num_owners + up
                        start_s = max(start_s, m.up_free_s[up])
                    if down != -1:
                        down = owner if down == -2 else num_owners + down
                        start_s = max(start_s, m.down_free_s[down])
                    left_s = start_s + numbers[pc] / m.link_rate[link]
                    if up != -1:
                        m.up_free_s[up] = left_s
                    if down != -1:
                        m.down_free_s[down] = left_s
                    arrives_s = left_s + m.link_latency_s[link]
                    m.time_s[t] = start_s
                    if arrives_s > now_s:
                        push(m.timer_s, m.timer_number, m.timer_task, 0, s[TIMERS], arrives_s, s[NUMBER], t)
                        s[NUMBER] += 1
                        s[TIMERS] += 1
                        m.at[t] = pc
                        m.phase[t] = 2
                        break
                log(m, s, code[pc, 3], owner, -1, m.time_s[t], max(now_s, m.time_s[t]))
            elif op == START:
                task = base + code[pc, 3]
                if m.begun[task] >= 0:
                    s[STATUS] = CONFLICT
                    return
                m.begun[task] = code[pc, 4]
                m.at[task] = code[pc, 4]
                m.uses[task] = code[pc, 5]
                m.phase[task] = 0
                m.done[task] = 0
                m.heads[task] = -1
                add_due(due, s, task * 4 + STEP)
            elif op == AWAIT:
                task = base + code[pc, 3]
                if m.begun[task] != code[pc, 5]:
                    s[STATUS] = CONFLICT
                    return
                if not m.done[task]:
                    append(m.heads, m.tails, behind, task, t)
                    m.at[t] = pc
                    break
                m.uses[task] -= 1
                if m.uses[task] == 0:
                    m.begun[task] = -1
            elif op == END:
                m.done[t] = 1
                m.time_s[t] = now_s
                wake(m.heads, behind, t, due, s, STEP)
                if code[pc, 3] >= 0:
                    add_due(due, s, (base + code[pc, 3]) * 4 + JOINED)
                if m.uses[t] == 0:
                    m.begun[t] = -1
                if code[pc, 4]:
                    add_due(due, s, STOP)
                break
            elif op == ALL:
                if phase == 0 and code[pc, 5] > 0:
                    m.counts[t] = code[pc, 5]
                    m.at[t] = pc
                    m.phase[t] = 1
                    break
            elif op == MEET:
                if phase == 0:
                    meeting = code[pc, 4]
                    m.met[meeting] += 1
                    if m.met[meeting] < m.meetings[meeting]:
                        append(m.meeting_heads, m.meeting_tails, behind, meeting, t)
                        m.at[t] = pc
                        m.phase[t] = 1
                        break
                    m.back_at[meeting] = pc + 1
                    pc = np.int64(code[pc, 5])
                    continue
            elif op == RELEASE:
                meeting = code[pc, 4]
                wake(m.meeting_heads, behind, meeting, due, s, STEP)
                pc = np.int64(m.back_at[meeting])
                phase = np.int64(0)
                continue
            elif op == TURN:
                if phase == 0 and m.turns[code[pc, 4]] != code[pc, 5]:
                    append(m.turn_heads, m.turn_tails, behind, code[pc, 3] + code[pc, 5], t)
                    m.at[t] = pc
                    m.phase[t] = 1
                    break
            elif op == PASSED:
                m.turns[code[pc, 4]] += 1
                turn = m.turns[code[pc, 4]]
                if turn < code[pc, 5]:
                    wake(m.turn_heads, behind, code[pc, 3] + turn, due, s, SHIELDED)
            elif op == SUBMIT:
                total = code[pc, 4]
                m.submitted[total] += 1
                if m.submitted[total] == m.sums[total]:
                    wake(m.sum_heads, behind, total, due, s, SHIELDED)
            elif op == MEAN:
                total = code[pc, 4]
                if phase == 0 and m.submitted[total] < m.sums[total]:
                    append(m.sum_heads, m.sum_tails, behind, total, t)
                    m.at[t] = pc
                    m.phase[t] = 1
                    break
            elif op == MARK:
                m.marks_s[code[pc, 3]] = now_s
            elif op in (LOOP, NEXT):
                loop = code[pc, 2]
                place = np.int64(0) if op == LOOP else m.loop_place[loop] + 1
                m.loop_place[loop] = place
                chosen = m.loops[loop, 0]
                if place < m.list_size[chosen]:
                    pc = np.int64(m.bodies[m.loops[loop, 1] + m.list_kind[m.list_first[chosen] + place]])
                else:
                    pc = np.int64(m.loops[loop, 2])
                phase = np.int64(0)
                continue
            phase = np.int64(0)
            pc += 1
    clock[0] = now_s
