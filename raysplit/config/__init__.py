"""From YAML or keyword arguments to a checked configuration, and from there to an `Experiment`.

Files: `run` (the sections, `RunConfig`, `load_config`, `check_config`, `dump_config`), `sections` (sections with a
name, owners and output), `checks` (settings that do not go together), `overrides` (YAML files and ``a.b=c``), `texts`
(settings that hold text), `objects` (sections given as Python objects), `sources` (all kinds of sources), `errors`
(messages), `build` (`build` and `build_dry` make the experiment), `load_data` (load, divide and describe the data),
`planned_cuts` (``cuts: auto``) and `reference` (docs/configuration.md).

The API, the command line and sweeps use `run`, `build`, `sources`, `overrides`, `objects` and `planned_cuts`. Nothing
is exported here, because each of these modules loads torch.
"""
