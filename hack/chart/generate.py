"""Writes what is made of other files: the chart's values.yaml and the table of its README from values.schema.json, its resource definitions
from crds/manifests, and the table of docs/rbac.md from its rules. With --check it writes nothing and says what is stale."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/kontrol"
WIDTH = 118


def wrapped(text, indent):
    """The lines of a comment."""
    line, lines = "", []
    for word in text.split():
        if line and len(indent) + len(line) + len(word) + 3 > WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [f"{indent}# {line}" for line in lines + [line]]


def scalar(value):
    """One value as YAML in flow style, which JSON is."""
    return json.dumps(value, ensure_ascii=False)


def block(value, indent):
    """A default as lines of YAML."""
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            if isinstance(inner, dict) and inner:
                lines += [f"{indent}{key}:", *block(inner, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {scalar(inner)}")
        return lines
    return [indent + scalar(value)]


def values(schema, indent=""):
    """The lines of values.yaml for the properties of one object."""
    lines = []
    for name, entry in schema["properties"].items():
        if name == "global":
            continue
        lines += wrapped(entry["description"], indent)
        if "default" not in entry:
            lines += [f"{indent}{name}:", *values(entry, indent + "  ")]
        elif isinstance(entry["default"], dict) and entry["default"]:
            lines += [f"{indent}{name}:", *block(entry["default"], indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {scalar(entry['default'])}")
        if not indent:
            lines.append("")
    return lines


def rows(schema, prefix=""):
    """The rows of the README's table."""
    for name, entry in schema["properties"].items():
        path = f"{prefix}{name}"
        if "default" not in entry:
            yield from rows(entry, f"{path}.")
        elif name != "global":
            default = json.dumps(entry["default"], ensure_ascii=False)
            yield f"| `{path}` | {entry['type']} | `{default}` | {entry['description']} |"


RULES = {
    "cluster.yaml": "the cluster",
    "namespaces.yaml": "widgets' namespaces",
    "own.yaml": "its own namespace",
    "nodes.yaml": "`kube-node-lease`",
}


def rights():
    """The rows of the table of rights: one for each rule, with the comment above it as its reason."""
    for file, where in RULES.items():
        reason, rule = "", {}
        for line in [*(CHART / "files/rbac" / file).read_text().splitlines(), "- "]:
            if line.startswith(("- ", "# ")) and "verbs" in rule:
                named = f" named {rule['resourceNames']}" if "resourceNames" in rule else ""
                group = f" ({rule['apiGroups']})" if rule["apiGroups"] != '""' else ""
                yield f"| {where} | {rule['resources']}{group}{named} | {rule['verbs']} | {reason} |"
                reason, rule = "", {}
            if line.startswith("# "):
                reason = f"{reason} {line[2:]}".strip()
            else:
                key, _, value = line.lstrip("- ").partition(": ")
                rule[key] = value.strip("[]")


def between(text, name, rows):
    """A page with the rows between its two marks."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- /{name} -->"
    table = "\n".join([begin, *rows, end])
    return re.sub(f"{begin}.*{end}", lambda _: table, text, flags=re.S)


def generated():
    """All generated files, as texts by their paths."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    head = "# Generated from values.schema.json by hack/chart/generate.py."
    readme, rbac = CHART / "README.md", ROOT / "docs/rbac.md"
    texts = {
        CHART / "values.yaml": "\n".join([head, "", *values(schema)]).rstrip() + "\n",
        readme: between(readme.read_text(), "values", ["| value | type | default | |", "| --- | --- | --- | --- |", *rows(schema)]),
        rbac: between(rbac.read_text(), "rbac", ["| in | what | verbs | for |", "| --- | --- | --- | --- |", *rights()]),
    }
    for manifest in sorted((ROOT / "crds/manifests").glob("*.yaml")):
        texts[CHART / "files/crds" / manifest.name] = manifest.read_text()
    return texts


def main():
    check = sys.argv[1:] == ["--check"]
    texts = generated()
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    gone = [path for path in (CHART / "files/crds").glob("*.yaml") if path not in texts]
    if check:
        for path in stale + gone:
            print(f"{path.relative_to(ROOT)} is stale: run python3 hack/chart/generate.py and commit it")
        return 1 if stale or gone else 0
    (CHART / "files/crds").mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(texts[path])
    for path in gone:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
