"""``corral serve`` with a plan made by hand and the fake frontend: argv[1] is JSON.

settings     option names and values
plan         corral.planning.plan.Plan
model        name in the children's boot files
frontend      module to run as one; the fake one unless told otherwise
"""

import json
import os
import sys

import msgspec

from corral import settings as config
from corral.artifacts.served_model import served_model
from corral.errors import CorralError
from corral.ipc.messages import ModelBoot
from corral.models import registry
from corral.planning.plan import Plan
from corral.supervisor import app
from corral.supervisor.deployment import DeploymentSpec


def main() -> int:
    order = json.loads(sys.argv[1])
    settings = config.build({**order["settings"], "model": order["model"]})
    plan = msgspec.convert(order["plan"], Plan)
    model = ModelBoot(
        name=order["model"], artefact=None, precision="fp32", synthetic=True, weights="none"
    )
    try:
        return app.run(
            DeploymentSpec(asked=settings, settings=settings, model=model),
            plan,
            served_model(registry.get("resnet50")),
            environ=os.environ,
            frontend_module=order.get("frontend", "support.fake_frontend"),
        )
    except CorralError as error:
        print(f"corral: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
