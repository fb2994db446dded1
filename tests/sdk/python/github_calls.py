"""PyGithub: calls that start at its base URL. What it builds from addresses inside answers is not tried here."""

import logging

from github import Auth, Github, GithubException
from recording import Recording

REPOSITORY = "octocat/Hello-World"


def details(error: GithubException) -> dict[str, object]:
    """What a program reads from the SDK's own exception."""
    return {"status": error.status, "body": error.data} if isinstance(error, GithubException) else {}


def at(base: str, key: str) -> Github:
    """Without its pauses between calls and its own repetitions."""
    return Github(
        auth=Auth.Token(key), base_url=base, retry=None, seconds_between_requests=0, seconds_between_writes=0
    )


def main() -> None:
    logging.disable()
    told = Recording("PyGithub", details)
    for style, base in {"origin": f"{told.base}/github", "enterprise": f"{told.base}/github/api/v3"}.items():
        github = at(base, told.key)
        repository = github.get_repo(REPOSITORY, lazy=True)
        told.step(f"{style} whoami", lambda github=github: github.get_user().login)
        told.step(
            f"{style} write", lambda repository=repository: repository.create_issue(title="Fehler: ä").number
        )
        told.step(f"{style} missing", lambda github=github: github.get_repo("octocat/none").id)

    login = Github(auth=Auth.Login("grace", told.key), base_url=f"{told.base}/github", retry=None)
    told.step("basic", lambda: login.get_user().login)

    narrow = at(f"{told.base}/github", told.narrow)
    told.step("permitted", lambda: narrow.get_user().login)
    told.step("refused", lambda: narrow.get_repo(REPOSITORY, lazy=True).create_issue(title="no").number)
    told.step("stranger", lambda: at(f"{told.base}/github", told.stranger).get_user().login)
    told.step("unconnected", lambda: at(f"{told.base}/github@nobody", told.key).get_user().login)
    told.tell()


if __name__ == "__main__":
    main()
