"""A place and the calls to it: the actor in which parties live, their handles, and the promises of their answers.

A call to a party in the same process is a plain call; any other is an actor call whose promise is an ``ObjectRef``.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
import torch

from raysplit.cluster.arriving.check import due_answer, due_arguments, promised
from raysplit.cluster.contract import (
    Handle,
    LinkTraffic,
    PartyLoad,
    PartySpec,
    Promise,
    are_answered_together,
    current_caller,
    current_party,
)
from raysplit.cluster.emulation.coding import Coder
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulation
from raysplit.cluster.links.kinds import BEGINS, SUBMIT, SUBMIT_SUM, TOGETHER, UNDECLARED, Crossing, declared
from raysplit.cluster.links.link import arguments_leaving
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.cluster.links.tensors import Envelope, Sealed, content_of, num_bytes, opened, sealed, unpack
from raysplit.cluster.local.calls import LocalPromise, kind_of, received, restore_links, time_of_encoding, with_links
from raysplit.cluster.on_ray.answers import Outcomes, Request, Together, unwrapped
from raysplit.cluster.on_ray.home import (
    Home,
    HomeHandle,
    HomePromise,
    RayPromise,
    here,
    keep_freed_memory,
    label_logs,
    made_here,
    outgoing,
    taken,
)
from raysplit.cluster.processors import processor
from raysplit.cluster.sums.leaving import Sum, as_update
from raysplit.own_code import make_reachable

PULSE = "pulse"
"""The concurrency group of the call that a place answers in parallel to all work."""


class RayHandle(Handle):
    """The handle of a party in a place; it can be pickled and sent to other parties.

    Args:
        name: name of the party.
        place: name of its place.
        actor: Ray actor of the place.
        own: verbs with the kinds of values that the party's class declares.
        home: calling process; by default the place of the calling party.
    """

    def __init__(
        self, name: str, place: str, actor: Any, own: Mapping[str, Crossing], home: Home | None = None
    ) -> None:
        self.name = name
        self._place = place
        self._actor = actor
        self._own = own
        self._home = home

    def __getattr__(self, verb: str) -> Callable[..., Promise[Any]]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return partial(self._call, verb)

    def __reduce__(self) -> tuple[type[RayHandle], tuple[str, str, Any, Mapping[str, Crossing]]]:
        return RayHandle, (self.name, self._place, self._actor, self._own)

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> Promise[Any]:
        home = self._home or here.get()
        if home.place == self._place:
            promise: Promise[Any] = home.handles[self.name]._call(verb, *args, **kwargs)
            return promise
        crossing, step = home.link.crossings(self._own).get(verb, UNDECLARED), None
        due = due_answer(home.link.holds(self._own).get(verb), args, kwargs)
        if home.link.codes and crossing is not UNDECLARED:
            step = crossing.step_of(args, kwargs)
            if home.link.network is not None and home.link.network.coder is not None:
                encoded = self._call_after_encoding(home.link.network.coder, home, crossing, verb, args, kwargs)
                return HomePromise(asyncio.ensure_future(encoded), home, self.name, (crossing.answer, step, due))
            ends = current_party.get(), self.name
            args, kwargs = arguments_leaving(home.link, crossing, verb, ends, args, kwargs)
        for value in (*args, *kwargs.values()):
            if isinstance(value, LocalPromise):
                encoded = self._call_with_local_promises(home, verb, args, kwargs)
                return HomePromise(asyncio.ensure_future(encoded), home, self.name, (crossing.answer, step, due))
        if home.link.network is None and (verb in TOGETHER or are_answered_together.get()):
            made = self._collected(home, verb, args, kwargs)
            return HomePromise(made, home, self.name, (crossing.answer, step, due))
        ref, submits = self._submit(home, verb, args, kwargs), home.link.keeps_state and verb == SUBMIT
        called = verb, self.name, self._place
        return RayPromise(ref, called, home, (crossing.answer, step, due), submits=submits)

    def _submit(self, home: Home, verb: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Submit the actor call; promises are separate arguments, which Ray replaces by their answers."""
        if (waiting := home.together.get(self._place)) is not None:
            waiting.send()
        request, answers = self._request(home, verb, args, kwargs)
        return self._actor.call.remote(request, *answers)

    def _request(
        self, home: Home, verb: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], list[Any]]:
        caller, now_s = current_party.get(), home.now_s()
        values = [*args, *kwargs.values()]
        sent = [None if isinstance(value, RayPromise) else outgoing(caller, value, now_s) for value in values]
        answers = [value.passed_on() for value in values if isinstance(value, RayPromise)]
        return (self.name, verb, sent, tuple(kwargs)), answers

    def _collected(
        self, home: Home, verb: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> asyncio.Future[Envelope]:
        """Collect the call with others to the same place, and return the future of its answer."""
        together = home.together.get(self._place)
        if together is None or together.actor is not self._actor:
            together = home.together[self._place] = Together(place=self._place, actor=self._actor)
        made_request, answers = self._request(home, verb, args, kwargs)
        request = Request(*made_request)._replace(waits=are_answered_together.get())
        update = as_update(self.name, args, kwargs) if verb == SUBMIT and home.link.adds else None
        made = together.add(request, answers) if update is None else together.add_update(update, request)
        if home.link.keeps_state and verb == SUBMIT:
            made.add_done_callback(partial(taken, home, current_party.get()))
        return made

    async def _call_after_encoding(
        self, coder: Coder, home: Home, crossing: Crossing, verb: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Envelope:
        caller = current_party.get()
        await time_of_encoding(coder, crossing, caller, self.name, args, kwargs)
        args, kwargs = arguments_leaving(home.link, crossing, verb, (caller, self.name), args, kwargs)
        return await self._call_with_local_promises(home, verb, args, kwargs)

    async def _call_with_local_promises(
        self, home: Home, verb: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Envelope:
        """Send the values of this process's promises, which Ray cannot resolve, with their sources."""
        caller = current_party.get()
        args = [await made_here(value) for value in args]
        kwargs = {key: await made_here(value) for key, value in kwargs.items()}
        answer = opened(await unwrapped(self._submit(home, verb, args, kwargs), self._place))
        if verb == SUBMIT:
            home.link.taken(caller)
        return answer


class Place:
    """The actor of a place, which holds its parties by name."""

    def __init__(self, name: str) -> None:
        make_reachable()
        torch.set_num_threads(1)
        keep_freed_memory()
        label_logs(name)
        self.name = name
        self._home = Home(place=name)
        self.parties = self._home.link.parties
        self._rules = PLAIN
        self._emulation: Emulation | None = None
        self._outcomes = Outcomes()

    async def make(
        self, specs: Sequence[PartySpec], emulation: Emulation | None = None, rules: LinkRules = PLAIN
    ) -> str:
        """Create these parties in place of all others, and return the kind of the processor."""
        self._emulation, self._rules = emulation, rules
        self._home.furnish(rules, emulation.network if emulation is not None else None)
        self.parties = self._home.link.parties  # a new link, which asks them what they expect
        await self.add(specs)
        gc.freeze()  # the collector of cycles would go through these and all modules again and again
        return processor()

    async def add(self, specs: Sequence[PartySpec]) -> None:
        for spec in self._emulation.equip(specs) if self._emulation is not None else specs:
            party = self.parties[spec.name] = spec.build(name=spec.name, **spec.arguments)
            self._home.handles[spec.name] = HomeHandle(spec.name, party, self._home, declared(spec.build))

    async def drop(self, names: Sequence[str]) -> None:
        for name in names:
            del self.parties[name], self._home.handles[name]

    async def call(self, request: tuple[str, str, Sequence[Sealed | None], Sequence[str]], *answers: Sealed) -> Sealed:
        """Run a verb of a party.

        The request holds the party, the verb, the arguments (None stands for the next of ``answers``), and the names of
        the keyword arguments, which come last.
        """
        party, verb, sent, names = request
        home = self._home
        link, crossing = home.link, home.crossing(verb, party)
        current_party.set(party)
        current_caller.set(next((seal[0] for seal in sent if seal is not None), ""))
        here.set(home)
        with home.load.answering(party):
            later, values, first = iter(answers), list[Any](), len(sent) - len(names)
            present = [None if seal is None else content_of(seal) for seal in sent]
            step = crossing.step_of(present[:first], {}) if link.codes else None
            named = dict(zip(names, present[first:], strict=True))
            dues = due_arguments(home.handles[party].holds.get(verb), present[:first], named) or [None] * len(sent)
            if verb in BEGINS:
                link.begin(party, step)
            for i, seal in enumerate(sent):
                answer = next(later) if seal is None else seal
                source, made_s, size_bytes, _ = answer
                value = content_of(answer) if seal is None else present[i]
                if size_bytes or dues[i] is not None:
                    kind = kind_of(crossing, i, sent[:first], names)
                    due = promised(dues[i]) if seal is None else dues[i]
                    value = link.arriving(source, party, value, size_bytes, kind, step, due)
                    if size_bytes and link.network is not None:
                        await received(link.network, source, party, size_bytes, made_s, kind, value, step)
                values.append(value)
            named = dict(zip(names, values[first:], strict=True))
            if link.keeps_state:
                restore_links(link, party, verb, values)
            result = getattr(self.parties[party], verb)(*values[:first], **named)
            if hasattr(result, "__await__"):
                result = await result
        if link.keeps_state and verb == "state_dict":
            result = with_links(link, "", party, verb, result)
        if link.network is not None and link.network.coder is not None:
            await link.network.coder.encode(party, "", crossing.answer, num_bytes(result), step)
        if link.codes and crossing is not UNDECLARED:
            step = step or crossing.step_of(values[:first], named)
            result = link.leaving(party, "", result, crossing.answer, step, verb)
        return sealed(party, result, home.now_s())

    async def calls(self, requests: Sequence[Request], *answers: Sealed) -> list[Any]:
        """Carry out calls that came together, in their order, and return their outcomes."""
        shared = [(*seal[:3], unpack(seal[3]) if seal[2] else seal[3]) for seal in answers]
        tasks = [
            asyncio.ensure_future(
                self.take_sum(each.party, *map(content_of, each.sent))  # type: ignore[arg-type]  # none is another's
                if each.verb == SUBMIT_SUM
                else self.call(each[:4], *[shared[i] for i in each.later])
            )
            for each in requests
        ]
        return await self._outcomes.of(tasks, all_at_once=all(each.waits for each in requests))

    async def take_sum(self, party: str, context: Any, total: Sum) -> Sealed:
        """Hand an aggregator the sum of several updates, which count as so many."""
        current_party.set(party)
        current_caller.set(total.owners[0])
        here.set(self._home)
        with self._home.load.answering(party):
            self._home.link.count_sum(total.owners, party, total.each_bytes)
            await self.parties[party].submit_sum(context, total.node, total.total)
        return sealed(party, None)

    async def rest(self, key: int) -> Sealed:
        """Return the answer of a call that was unfinished when others that came with it were answered."""
        return await self._outcomes.rest(key)

    @ray.method(concurrency_group=PULSE)  # type: ignore[untyped-decorator]
    async def pulse(self) -> None:
        """Answer in parallel to all work, so that a busy place answers too."""

    async def traffic(self) -> list[LinkTraffic]:
        return self._home.link.traffic()

    async def party_loads(self) -> list[PartyLoad]:
        return self._home.loads()

    async def events(self) -> EventLog:
        """Return the events of this place in an emulated run."""
        return self._emulation.log if self._emulation is not None else EventLog()
