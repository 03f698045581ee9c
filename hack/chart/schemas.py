"""Writes the JSON schemas that kubeconform reads, one file per kind, strict: a field that the API does not have is an error.

    schemas.py kubernetes SWAGGER OUT    from the OpenAPI document of a Kubernetes release
    schemas.py crds OUT FILE...          from resource definitions as JSON, one each or a list
"""

import json
import sys
from pathlib import Path

PREFIX = "#/definitions/"
# Types that the OpenAPI document describes by their most common form alone.
LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


def strict(schema):
    """The same schema, closed wherever it names its properties."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: value if key == "properties" else strict(value) for key, value in schema.items() if key != "default"}
    if closed.pop("x-kubernetes-int-or-string", False) is True:
        closed.pop("anyOf", None)
        closed["type"] = ["string", "integer"]
    if "properties" in closed:
        closed["properties"] = {name: strict(value) for name, value in closed["properties"].items()}
        if closed.get("x-kubernetes-preserve-unknown-fields") is not True:
            closed.setdefault("additionalProperties", False)
    return closed


def references(schema):
    """The names of all definitions that a schema refers to."""
    if isinstance(schema, list):
        for item in schema:
            yield from references(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(PREFIX)
            else:
                yield from references(value)


def closure(name, definitions):
    """A definition with everything that it needs."""
    found, todo = {}, [name]
    while todo:
        current = todo.pop()
        if current not in found:
            found[current] = definitions[current]
            todo += references(definitions[current])
    return found


def write(out, group, version, kind, schema):
    """One kind, under the name by which kubeconform looks for it."""
    short = f"{group.split('.')[0]}-{version}" if group else version
    (out / f"{kind.lower()}-{short}.json".lower()).write_text(json.dumps(schema))


def kubernetes(swagger, out):
    definitions = json.loads(swagger.read_text())["definitions"]
    definitions = {name: LOOSE.get(name) or strict(schema) for name, schema in definitions.items()}
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            if "properties" in schema and "metadata" in schema["properties"]:
                whole = {"$ref": PREFIX + name, "definitions": closure(name, definitions)}
                write(out, kind["group"], kind["version"], kind["kind"], whole)


def crds(out, files):
    for file in files:
        content = json.loads(file.read_text())
        for crd in content if isinstance(content, list) else [content]:
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                for name in ("apiVersion", "kind"):
                    schema["properties"].setdefault(name, {"type": "string"})
                schema["properties"]["metadata"] = {"type": "object"}
                write(out, spec["group"], version["name"], spec["names"]["kind"], schema)


def main():
    match sys.argv[1:]:
        case ["kubernetes", swagger, out]:
            Path(out).mkdir(parents=True, exist_ok=True)
            kubernetes(Path(swagger), Path(out))
        case ["crds", out, *files]:
            Path(out).mkdir(parents=True, exist_ok=True)
            crds(Path(out), [Path(file) for file in files])
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
