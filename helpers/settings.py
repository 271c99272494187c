"""The settings of an experiment, flat, so that two experiments can be compared setting by setting."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.pipeline import STEPS
from helpers.planning.experiment import DEFAULT_ARGS

# What a manifest knows of a job; of an experiment.yml, VolumeSizeInGB and the like can be compared too.
_IN_MANIFESTS = ("code", "ImageUri", "InstanceCount", "InstanceType", "args", "environment")

Settings = dict[str, str]


def of_experiment(experiment: Mapping[str, Any]) -> Settings:
    """Return the settings of a parsed experiment.yml by name: "train InstanceType", "train --C"."""
    found: Settings = {}
    for step in STEPS:
        section = experiment.get(step) or {}
        found |= {
            f"{step} {name}": str(value) for name, value in section.items() if name not in ("args", "environment")
        }
        found |= _arguments(step, section.get("args") or ())
        found |= _environment(step, section.get("environment") or {})
    return found


def of_variant(manifest: Mapping[str, Any], variant: Mapping[str, Any]) -> Settings:
    """Return the settings of a variant of a manifest, by the same names."""
    found: Settings = {}
    for step, key in variant["jobs"].items():
        job = manifest["jobs"][step][key]
        found |= {
            f"{step} code": job["script"],
            f"{step} ImageUri": job["image"],
            f"{step} InstanceCount": str(job["instances"]),
            f"{step} InstanceType": job["type"],
        }
        found |= _arguments(step, job["args"])
        found |= _environment(step, job["environment"])
    return found


def changes(base: Settings, this: Settings, swept: Mapping[str, str], *, manifests_only: bool) -> list[str]:
    """Return "name: value" for each swept argument, and each other setting that differs from ``base``.

    ``manifests_only``: compare just what manifests know. Steps that only one of the two has are not compared.
    """
    found = [f"{name}: {value}" for name, value in swept.items()]
    both = _steps(base) & _steps(this)
    for name in {**base, **this}:
        step, _, setting = name.partition(" ")
        known = setting.startswith(("-", *_IN_MANIFESTS)) or not manifests_only
        if step in both and known and name not in swept and base.get(name) != this.get(name):
            found.append(f"{name}: {this.get(name, 'default')}".removesuffix(": "))
    return found


def arguments(settings: Settings) -> Settings:
    """Return the options of the scripts among the settings: "train --C"."""
    return {name: value for name, value in settings.items() if name.partition(" ")[2].startswith("-")}


def _arguments(step: str, args: Sequence[Any]) -> Settings:
    """Return each option with its value; of arguments that are not just options, the whole text under "args"."""
    words = [str(word) for word in args]
    if words == list(DEFAULT_ARGS):  # what the dispatcher gives to a script without arguments
        return {}
    options: Settings = {}
    name = ""
    for word in words:
        if re.match(r"-[^\d.]", word):
            name, _, value = word.partition("=")
            if f"{step} {name}" in options:
                break
            options[f"{step} {name}"] = value
        elif name and not options[f"{step} {name}"]:
            options[f"{step} {name}"] = word
        else:
            break
    else:
        return options
    return {f"{step} args": " ".join(words)}


def _environment(step: str, environment: Mapping[str, Any]) -> Settings:
    return {f"{step} environment {name}": str(value) for name, value in environment.items()}


def _steps(settings: Settings) -> set[str]:
    return {name.partition(" ")[0] for name in settings}
