"""PyGithub where it goes from one object to the next: it follows nothing that is not below its base URL."""

import io
import logging

from github import Auth, Github
from recording import Recording

REPOSITORY = "octocat/Hello-World"


def main() -> None:
    logging.disable()
    told = Recording("PyGithub")
    for style, base in {"origin": f"{told.base}/github", "enterprise": f"{told.base}/github/api/v3"}.items():
        github = Github(
            auth=Auth.Token(told.key), base_url=base, retry=None, seconds_between_requests=0, seconds_between_writes=0
        )  # fmt: skip
        repository = github.get_repo(REPOSITORY)
        told.step(f"{style} pages", lambda r=repository: [issue.number for issue in r.get_issues()])
        issue = repository.get_issues()[0]
        told.step(f"{style} write", lambda issue=issue: issue.edit(state="closed"))
        told.step(f"{style} comments", lambda issue=issue: [one.body for one in issue.get_comments()])
        if style == "origin":  # the other one takes no address that is not below /api/v3
            release = repository.get_release(1)
            content = io.BytesIO(b"zip")
            told.step(
                "asset",
                lambda release=release, content=content: (
                    release.upload_asset_from_memory(content, 3, "a b.zip", "application/zip").name
                ),
            )
    told.tell()


if __name__ == "__main__":
    main()
