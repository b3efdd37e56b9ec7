DROP INDEX templates_private;
