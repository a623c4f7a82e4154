"""The costs of the ways to deploy a multi-task model.

* ``deployments``: sizes, traffic, latency and break-even rates, by the formulas of MTL-Split.
* ``requests``: the transfer times of many requests over a link that varies.
* ``measure``: the times of backbone and heads on this machine.
* ``report``: all costs as one record, and its figure.
"""

from raysplit.serving.cost.deployments import model_sizes as model_sizes
from raysplit.serving.cost.measure import measure_times as measure_times
from raysplit.serving.cost.report import cost_report as cost_report
from raysplit.serving.cost.report import draw_costs as draw_costs
