DROP TABLE template_ratings;
DROP TABLE templates;
