"""The steps that make a network smaller before it is quantised, in their order: slim, prune, train with rounding.

Slimming makes the network faster, pruning makes its file compress better, and quantisation-aware training reduces what
int8 loses. Each step trains on the run's training split, is judged on its validation split, and never sees its test
split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edge_ct.errors import EdgeCTError

from ..networks import to_deployed_form
from ..options import ShrinkOptions
from ..run_slices import RunSlices

# Initial learning rates of Adam: after slimming and while pruning, and with rounding, when little is left to learn.
_RATE, _QAT_RATE = 2e-4, 2e-5
_REPRESENTATIVE = 128


@dataclass(frozen=True, eq=False)
class ShrunkNetwork:
    """A network as it goes to the quantiser.

    Attributes:
        model: A Keras 3 network whose only output is the logits, or the deployed form of a tf_keras network.
        label: The steps that were done, for names and tables ("qat", "pruned-0.7"); "" for none.
        exact: Whether the kernels must reach the quantiser unchanged, as after quantisation-aware training. Otherwise
            they are rounded first, which keeps every zero.
        parameters: Number of weights, if it differs from the run's.
        account: Step -> what it has to report, printed under `shrinking` in the JSON.
    """

    model: Any
    label: str = ""
    exact: bool = False
    parameters: int | None = None
    account: dict[str, Any] = field(default_factory=dict)


def shrink_network(model: Any, slices: RunSlices, options: ShrinkOptions) -> ShrunkNetwork:
    """Make a network smaller.

    Args:
        model: A Keras 3 network whose only output is the logits.
        slices: The slices of its run.
        options: The steps.

    Returns:
        The network; it is a tf_keras one after quantisation-aware training.

    Raises:
        EdgeCTError: A step cannot be done to this network.
    """
    if not options.label:
        return ShrunkNetwork(model)
    # Imported here because tf_keras and tfmot take seconds, which a plain conversion need not wait for.
    from .finetune import DistillationData, FineTuneRecipe
    from .prune import prune_network
    from .qat import check_support, insert_rounding, set_activation_ranges, train_with_rounding
    from .slim import find_blocks, slim_and_train

    recipe = FineTuneRecipe(options.epochs, _RATE, seed=options.seed)
    progress = slices.progress
    # What cannot be done is refused before anything takes time.
    if options.slim:
        find_blocks(model)
    if options.qat and (left := check_support(model).left):
        raise EdgeCTError(
            f"{model.name}: quantisation-aware training does not support the layers {', '.join(left)}, so the result "
            "would not be a full-integer file: leave out --qat"
        )
    data = DistillationData.from_slices(model, slices)
    account: dict[str, Any] = {}
    parameters = None
    if options.slim:
        progress.say(f"removing {options.slim:g} of the channels")
        [images] = slices.representative(_REPRESENTATIVE, options.seed)
        normalised = slices.preprocess.normalise(images)
        model, account["slim"] = slim_and_train(model, options.slim, normalised, data, recipe, progress)
        parameters = model.count_params()
    if options.prune:
        progress.say(f"setting {options.prune:g} of the weights to zero")
        account["prune"] = prune_network(model, options.prune, data, recipe, progress)
    if not options.qat:
        return ShrunkNetwork(model, options.label, parameters=parameters, account=account)
    progress.say("training with the rounding of int8")
    quantised, support = insert_rounding(to_deployed_form(model), keep_zeros=bool(options.prune))
    [images] = slices.representative(_REPRESENTATIVE, options.seed)
    set_activation_ranges(quantised, slices.preprocess, images)
    qat_recipe = FineTuneRecipe(options.qat, _QAT_RATE, seed=options.seed)
    account["qat"] = train_with_rounding(quantised, support, data, qat_recipe, progress)
    return ShrunkNetwork(quantised, options.label, exact=True, parameters=parameters, account=account)
