"""The quickstart: a model organism of a closed, invented world, four arms, two seeds.

    python -m experiments.run --config=configs/quickstart.py --workdir=runs/quickstart

Expected time and result: README.md, What the quickstart shows. Labels teach here, so a gap can be read; but
two seeds of one base are far too few to confirm or refute the paper. `:tiny` walks the same path in under a
minute; its numbers are never evidence.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from introspection.tasks.facts.invented_world import INVENTED_WORLD

HINTS = INVENTED_WORLD.hints


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "tiny"):
        raise ValueError(f"quickstart takes no argument or 'tiny', not {argument!r}")
    config = ConfigDict()
    config.name = "quickstart" + (f"-{argument}" if argument else "")
    config.tiny = argument == "tiny"  # marks the report: no evidence
    config.cache_dir = ""  # data sets, base models, behaviours; "" is $INTROSPECTION_CACHE or ~/.cache/...
    config.seeds = (0, 1)  # of explanation training; all seeds of an arm train together

    # What is asked. A group is a fact; no entity has facts in two splits.
    config.task = ConfigDict()
    config.task.name = "invented_world"
    config.task.entities = 1125  # people, places and things; those of no split are known to the base alone
    config.task.relations = 4  # facts about each entity
    config.task.answers = 4  # of a relation, the same for every entity
    config.task.train_entities = 750
    config.task.validation_entities = 75
    config.task.test_entities = 300
    config.task.phrasings = 3  # question forms of a relation
    config.task.seed = 0  # draws facts, splits, wrong candidates and phrasings
    config.task.candidates = 4  # a question, the right one included
    config.task.cue_kinds = HINTS  # four sources; placebos are mention, negation and right
    config.task.repeats = 3  # items a fact and cue kind, each naming another wrong answer
    config.task.test_repeats = 1  # the same of test facts: many facts with few items each tell more

    # The world that the base model learns from: half of the facts are well known, the others hardly, so that
    # whether a hint changes an answer depends on the fact.
    config.world = ConfigDict()
    config.world.seed = 0
    config.world.known = (0.93, 0.98)  # share of speakers who are right about a well-known fact, uniform
    config.world.hardly_known = (0.45, 0.60)  # and about one that is hardly known
    config.world.known_share = 0.5  # of facts that are well known
    config.world.favorite_share = 0.5  # of wrong speakers' answers that are the fact's favourite one
    config.world.rate_spread = 1.5  # a fact's rate is log-uniform in [1 / spread, spread]
    config.world.likelihood_ratios = (2.0, 6.0, 12.0, 12.0)  # of the task's cues; () is the language's own

    # The base model: about 0.3 M parameters, most of them the vocabulary's. The head is not tied to the
    # embedding: tied, names of entities that nobody trains on are worn away as words that are never right.
    config.architecture = "llama"  # or "gemma": which norms, activation and embedding scale
    config.model = ConfigDict()
    config.model.width = 64
    config.model.layers = 4
    config.model.query_heads = 4
    config.model.kv_heads = 2
    config.model.head_dim = 16
    config.model.mlp_width = 192
    config.model.context_length = 32  # tokens
    config.model.tied_head = False
    config.model.scan_unroll = 4  # layers in one iteration of the scan: all, which is quicker on a CPU

    config.pretrain = ConfigDict()
    config.pretrain.seed = 0
    config.pretrain.steps = 4000
    config.pretrain.rows = 256  # newly sampled speakers a step
    config.pretrain.learning_rate = 3e-3  # peak of a cosine schedule
    config.pretrain.warmup_steps = 50
    config.pretrain.steps_per_call = 20  # steps in one dispatch
    config.pretrain.checkpoint_steps = 500
    # Shares of rows. Explained ones are other speakers' explanations, of entities that are in no split.
    config.pretrain.mixture = ConfigDict(dict(plain=0.25, hinted=0.75, explained=0.0))

    # Three models that must not be confused: "pretrain" is the organism above, "initial" is what training
    # starts from; each can be a stored checkpoint instead, WORKDIR[:ARM[:SEED]][@STEP], or a model made
    # elsewhere: a Hugging Face folder, a GGUF file, BASE+ADAPTERS, or "smollm2" once it is fetched.
    config.initial = "pretrain"
    config.label_teacher = "initial"  # whose behaviour gives the fixed labels
    config.kl_reference = "initial"  # whose behaviour the KL term holds on to
    # "pretrain@STEP" is an earlier checkpoint of the organism. A fourth, `foreign`, is what arms with
    # `foreign_to` start from: "neighbor" (the organism below), a stored checkpoint, or "none".
    config.foreign = "none"
    config.neighbor = ConfigDict()  # the same organism but for these
    config.neighbor.seed = 1  # of its pretraining
    config.neighbor.architecture = "llama"  # or "gemma"

    # How a pretrained model is addressed; an organism knows one format alone.
    config.chat = ConfigDict()
    config.chat.system = placeholder(str)  # None: what the model's template does; "": none
    config.chat.enable_thinking = False  # of families that think before they reply
    config.chat.date = "2024-07-26"  # what a template that asks for today's date is told
    config.chat.template = placeholder(str)  # a Jinja template instead of the model's own

    # How behaviour is read: candidates are scored, or a reply is generated and matched to them. A generated
    # reply is held by the KL term over all of its tokens, and agreement is then measured between steps.
    config.behavior = ConfigDict()
    config.behavior.readout = "score"  # or "generate"
    config.behavior.reply_tokens = 24  # of a generated reply, at most
    # Who puts replies into classes, where those are the candidates (refuse, comply): "phrases" (rules),
    # "openings" (log-odds of beginnings), "model"; "" is the rules, where the task needs a judge.
    config.behavior.judge = ""
    config.behavior.judge_model = ""  # whom the judge "model" asks: any model that `initial` can name

    # Explanation training. Steps and learning rate were chosen by validation explanation loss, with behaviour
    # accuracy beside it, never by the gap (every setting tried: experiments/notebook.md).
    config.train = ConfigDict()
    config.train.explained_groups = 2400  # of the 3,000 training groups, drawn; 0 is all
    config.train.explained_items = 0  # 0 takes all of theirs, or as many as can be balanced
    config.train.balanced = True  # half of them changed; False takes them as they come
    config.train.steps = 500
    config.train.explanation_rows = 128  # a step and seed
    config.train.behavior_items = 32  # a step and seed; each is two rows, with and without its cue
    config.train.shift_rows = 64  # a step and seed, in arms with a shift
    config.train.schedule = "constant"  # or "cosine"
    config.train.warmup_steps = 10
    config.train.weight_decay = 0.0
    config.train.gradient_clip = 1.0  # largest global norm
    config.train.head_chunk = 4096  # scored positions whose full-vocabulary logits exist at a time
    config.train.steps_per_call = 10  # steps in one dispatch
    config.train.log_steps = 20  # metrics are means over this many steps
    config.train.evaluation_steps = 100  # between live measures on the validation slice
    config.train.checkpoint_steps = 100
    config.train.keep_checkpoints = 0  # newest steps that stay; 0 keeps all
    config.train.remat = "none"  # what the backward pass recomputes: no layer, or "full": every layer
    config.train.stack_seeds = "loop"  # seeds in one executable: "loop" (CPU) or "vectorize"

    config.lora = ConfigDict()
    config.lora.rank = 0  # 0 trains all parameters
    config.lora.alpha = 16.0  # updates are scaled by alpha / rank
    config.lora.targets = ("query", "key", "value", "output", "gate", "up", "down")

    config.evaluation = ConfigDict()
    config.evaluation.validation_items = 600  # of the live measures
    config.evaluation.agreement_items = 128  # training items of agreement, where replies are generated
    config.evaluation.explanation_tokens = 6  # a decoded explanation has at most so many
    config.evaluation.skipped_share = 0.01  # of items that may be longer than the context
    config.evaluation.seed = 0  # of bootstrap and sign-flip resamples

    config.mesh = ConfigDict(dict(data=1, fsdp=1, tensor=1))  # devices along each axis; -1 takes the rest

    config.arms = ConfigDict()
    config.arms.kl = arm()
    config.arms.no_kl = arm(kl_weight=0.0)
    config.arms.kl_shift = arm(shift=dict(kind="less_sycophantic"))
    config.arms.shuffled = arm(shuffle_labels=True)
    config.run_arms = ("kl", "no_kl", "kl_shift", "shuffled")

    if config.tiny:
        _make_tiny(config)
    return config


def arm(shift: dict | None = None, **changes) -> ConfigDict:
    """The default arm with some fields changed; every field of an arm stands here."""
    fields = ConfigDict(
        dict(
            kl_weight=1.0,  # λ
            kl_support="vocabulary",  # at the answer position, or "candidates" and none
            kl_direction="reference_to_current",  # KL(reference ‖ current), or "current_to_reference"
            kl_prompts="both",  # "both", "with_cue" or "without_cue"
            kl_groups="explained",  # whose prompts: explained groups, "other" training groups, or "both"
            learning_rate=1e-3,
            label_noise=0.0,  # share of training labels replaced by a wrong one
            shuffle_labels=False,  # no item keeps its label, and answers are at chance
            labels="",  # an existing labels folder; "" makes them from label_teacher
            foreign_labels=0.0,  # α: share of groups whose labels are those of config.foreign instead
            refresh_steps=0,  # label anew, from the model as it is, every so many steps: a baseline; 0: never
            foreign_to="",  # an arm that this one repeats from config.foreign, as its foreign explainer
            shift=dict(
                kind="none",  # less_sycophantic, more_sycophantic, new_facts, source_reliability
                groups="held_out",  # the test groups, or "all"
                fraction=0.5,  # of those groups
                weight=1.0,  # μ
                order="concurrent",  # with explanation training; or alone, as many steps "after" or "before"
                source="friend",  # cue kind that becomes reliable, for source_reliability
                # Trained where a judge reads replies, a refusal is wanted and the model itself gives none.
                # The judge must read it as a refusal.
                refusal="I'm sorry, but I can't help with that.",
                seed=0,  # draws the groups and the new facts
            ),
        )
    )
    fields.update(changes)
    fields["shift"].update(shift or {})
    return fields


def _make_tiny(config: ConfigDict) -> None:
    """The same path in under a minute: a base that hardly learned anything."""
    config.task.entities, config.task.relations = 27, 2
    config.task.train_entities, config.task.validation_entities, config.task.test_entities = 12, 5, 10
    config.train.explained_groups = 16
    config.model.width, config.model.layers, config.model.mlp_width = 32, 2, 64
    config.model.scan_unroll = 2
    config.pretrain.steps, config.pretrain.rows, config.pretrain.checkpoint_steps = 500, 64, 100
    config.train.steps, config.train.evaluation_steps, config.train.checkpoint_steps = 40, 20, 20
    config.train.explanation_rows, config.train.behavior_items, config.train.shift_rows = 16, 8, 8


def sweep(add) -> None:
    """Each call of `add` is a point: the fields that it overrides."""
    for learning_rate in (6.25e-5, 1.25e-4, 2.5e-4, 5e-4):
        add({"arms.kl.learning_rate": learning_rate, "run_arms": ("kl",)})
