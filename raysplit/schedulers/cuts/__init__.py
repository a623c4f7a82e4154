"""The planner of MP-SL: where to cut a model, and which compute node runs which part.

* ``solve``: the entry points (`solve_ilp`, `solve_dp`, `pareto_front`), over ``ilp`` and ``dp`` with ``reach``.
* ``problem``: the question (`CutProblem`, `ComputeNodeSpec`, `FreeOwnerCuts`, `InfeasibleError`); ``segments``: its
  arrays.
* ``plan``: the answer (`Plan`, `plan_for`); ``baselines``: what it is compared with.
* ``profiles``: measured times and sizes of units (`Profile`, `load_profile`), with those published in ``profiles/``.
* ``leakage``: a limit of what leaves an owner tells (`limited`), and the trade-offs of time, price, bytes and leakage
  (`trade_offs`).
* ``time_model``: the time of a round in closed form.
* ``replan``: whether to move parts when compute nodes join or leave.
"""
